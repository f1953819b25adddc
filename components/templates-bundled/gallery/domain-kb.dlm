---
dlm_id: 01KAZ0GATTERY0000000000003
dlm_version: 15
base_model: qwen2.5-3b
system_prompt: You answer questions about espresso from the knowledge base, in two or three sentences.
---

# Knowledge base: espresso

This knowledge base shows the form with a subject that fits on a few pages; put your own in its place. State a fact
once in prose, where it belongs, and once more as a question that somebody would really ask. Numbers always carry
their unit. Where practice differs, say so and give the usual range.

Espresso is coffee made by pressing hot water through finely ground coffee at about nine bar. A common recipe is
eighteen grams of ground coffee, thirty-six grams of drink, in twenty-five to thirty seconds; the relation of the two
weights, here one to two, is called the brew ratio. Water leaves the machine at ninety to ninety-six degrees Celsius.
Lighter roasts want the hotter end, darker roasts the cooler.

Extraction is the share of the ground coffee that ends up dissolved in the cup. Between eighteen and twenty-two
percent most people find the taste balanced. Below that the drink is sour and thin, because acids dissolve first;
above it the drink is bitter and dry. Grinding finer, a hotter brew and a longer ratio all raise extraction. Grind is
the strongest of the three, and the only one to change first when a shot runs too fast or too slow.

Crema is the foam of carbon dioxide and oils on top. Fresh beans give more of it, because roasting leaves carbon dioxide
inside that escapes over the following weeks. Beans are usually at their best between seven and thirty days after
roasting. They keep longest in a closed bag, away from light and heat; a refrigerator adds moisture and smells.

Milk is steamed to fifty-five to sixty-five degrees. Above seventy its proteins change, the foam grows stiff and the
sweetness goes. A machine with hard water grows scale: between fifty and one hundred milligrams of calcium carbonate a
litre protects the boiler and still tastes well.

::instruction::
### Q
What pressure is used for espresso?
### A
About nine bar at the coffee. Many pumps can reach fifteen, but the machine limits it.

### Q
What is a good starting recipe for a double espresso?
### A
Eighteen grams of ground coffee, thirty-six grams of drink, in twenty-five to thirty seconds.

### Q
What does brew ratio mean?
### A
The weight of ground coffee to the weight of the drink. Eighteen grams in and thirty-six grams out is a ratio of one to two.

### Q
My espresso tastes sour. What should I change?
### A
It is under-extracted. Grind finer first; if that is not enough, brew hotter or let a little more water through.

### Q
My espresso tastes bitter and dry. What should I change?
### A
It is over-extracted. Grind coarser first; if that is not enough, brew cooler or stop the shot earlier.

### Q
The shot runs through in twelve seconds. What is wrong?
### A
The coffee is ground too coarsely, or there is too little of it. Grind finer and keep the dose the same.

### Q
The machine only drips. What is wrong?
### A
The coffee is ground too finely, or the basket is overfilled. Grind coarser and keep the dose the same.

### Q
How hot should the water be?
### A
Ninety to ninety-six degrees Celsius: the hotter end for light roasts, the cooler end for dark ones.

### Q
What is extraction?
### A
The share of the ground coffee that is dissolved in the cup. Eighteen to twenty-two percent tastes balanced to most people.

### Q
What is crema made of?
### A
Carbon dioxide and coffee oils. Fresh beans give more of it.

### Q
How long are beans good after roasting?
### A
They are usually at their best between seven and thirty days after roasting.

### Q
Should I keep coffee in the refrigerator?
### A
No. It takes up moisture and smells there. A closed bag in a dark, cool cupboard is better.

### Q
How hot should milk be steamed?
### A
Fifty-five to sixty-five degrees Celsius. Above seventy the foam grows stiff and the sweetness goes.

### Q
Which water protects the machine and still tastes well?
### A
Water with fifty to one hundred milligrams of calcium carbonate a litre.

### Q
What should I change first when a shot is wrong?
### A
The grind. It has the strongest effect, and changing one thing at a time shows what it did.

### Q
Why do dark roasts want cooler water?
### A
They dissolve more easily, so hot water pulls out bitter substances. Cooler water keeps extraction in balance.
