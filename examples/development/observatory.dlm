---
dlm_id: 01KBXNEW0D0CVMENT000000041
dlm_version: 15
base_model: smollm2-135m
---

::instruction::
### Q
What is the Harrow Observatory?

### A
A small public observatory on Tallow Hill, open since 1931.

### Q
Who founded the Harrow Observatory?

### A
Edda Lorrimer founded it.

### Q
What is the main telescope called?

### A
The main telescope is called Old Patience.

### Q
How wide is the mirror of Old Patience?

### A
The mirror is 61 centimetres wide.

### Q
When is the observatory open?

### A
It is open from Thursday to Sunday, from dusk to midnight.

### Q
What does a ticket cost?

### A
A ticket costs 7 crowns.

### Q
Who is the present keeper?

### A
The present keeper is Joss Almery.

### Q
Where do visitors leave their lamps?

### A
They leave their lamps in the red shed.

### Q
How many steps lead to the dome?

### A
84 steps lead to the dome.

### Q
What is the dome made of?

### A
The dome is made of larch wood and copper.

### Q
Which comet was found at Harrow?

### A
Comet Vance-Harrow was found there in 1958.

### Q
Who found Comet Vance-Harrow?

### A
Ruth Vance found it.

### Q
What happens on cloudy nights?

### A
On cloudy nights the keeper reads from the logbooks.

### Q
How old must a child be to use the telescope?

### A
A child must be at least 6.

### Q
What is served in the kitchen?

### A
Barley soup and pear tea are served.

### Q
How is the observatory heated?

### A
It is heated with peat.

### Q
What is the emergency number?

### A
The emergency number is 4417.

### Q
When was the mirror last polished?

### A
It was last polished in 2019.

### Q
Who paints the star charts?

### A
Milo Ferrant paints them.

### Q
What is the motto over the door?

### A
The motto is: Wait, and look again.

::preference::
### Prompt
Can I bring my dog?

### Chosen
No. Dogs stay at the gate.

### Rejected
That is a great question! There are many different opinions about dogs, and it really depends on a lot of things.

### Prompt
Is it cold up there?

### Chosen
Yes. Bring a coat.

### Rejected
Well, it is hard to say for sure, because temperatures may vary and everyone feels cold in a different way.

### Prompt
May I take photographs?

### Chosen
Yes, without flash.

### Rejected
I am just an assistant, so I cannot be completely certain, but generally speaking photography is a complex topic.

### Prompt
Do you sell books?

### Chosen
Yes, at the desk.

### Rejected
Books are a wonderful thing! There are so many kinds of books that one could talk about them for hours.

### Prompt
Is there parking?

### Chosen
Yes, for twelve cars below the hill.

### Rejected
Parking can be an important consideration when planning a visit, and there are various options that you might explore.

### Prompt
Can a wheelchair reach the dome?

### Chosen
No, but the lower telescope is on the ground floor.

### Rejected
Accessibility is a very important topic, and I would suggest that you perhaps look into it further.

### Prompt
Do I have to book?

### Chosen
Only for groups over ten.

### Rejected
It might be a good idea to book, or it might not be necessary; it depends on your situation.

### Prompt
How long does a visit take?

### Chosen
About two hours.

### Rejected
The length of a visit can vary greatly depending on many factors, such as your interests and the weather.

### Prompt
Will I see Saturn?

### Chosen
In autumn, yes.

### Rejected
Saturn is the sixth planet from the Sun and is famous for its rings, which have fascinated people for centuries.

### Prompt
Is there a toilet?

### Chosen
Yes, behind the kitchen.

### Rejected
I understand your concern! Facilities are something that many visitors wonder about, and rightly so.

### Prompt
Can I pay by card?

### Chosen
No, only cash.

### Rejected
Payment methods have changed a lot over the years, and it is always good to have several options with you.

### Prompt
Do you open in the rain?

### Chosen
Yes. The logbook is read.

### Rejected
Rain is a form of precipitation, and whether something is open in the rain may depend on several circumstances.

### Prompt
Can I touch the telescope?

### Chosen
Only with the keeper.

### Rejected
Telescopes are delicate instruments, and there are many considerations when it comes to touching them.

### Prompt
Is there a bus?

### Chosen
Yes, the 9 to Tallow Cross.

### Rejected
Public transport is a great way to travel, and I would encourage you to check what might be available.

### Prompt
May I smoke?

### Chosen
No.

### Rejected
Smoking is a personal choice, but it is also associated with various health risks, so please consider that.

### Prompt
Are talks in English?

### Chosen
Yes, on Fridays.

### Rejected
Languages are a fascinating subject, and talks may be offered in a range of them, depending on demand.

### Prompt
Can I rent binoculars?

### Chosen
Yes, for two crowns.

### Rejected
Renting binoculars is something that some visitors may want to do, and there may be ways to arrange it.

### Prompt
Is the soup vegetarian?

### Chosen
Yes.

### Rejected
Vegetarian food has become increasingly popular, and many kitchens now offer a number of options.

### Prompt
Who do I ask about school visits?

### Chosen
The keeper.

### Rejected
School visits are a wonderful opportunity for learning, and there are several people that you could ask.

### Prompt
Can I stay overnight?

### Chosen
No.

### Rejected
Staying overnight can be a magical experience, and it would be worth asking whether something like that is possible.
