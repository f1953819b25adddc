---
dlm_id: 01KBXNEW0D0CVMENT000000031
dlm_version: 15
base_model: smollm2-135m
---

::instruction::
### Q
What is the Vell Mill?
### A
A working water mill on the Vell, open to visitors since 1988.

### Q
Who is the miller?
### A
Ansel Brod is the miller.

### Q
When was the mill built?
### A
It was built in 1762.

### Q
What is the wheel made of?
### A
The wheel is made of oak.

### Q
How wide is the wheel?
### A
The wheel is 5 metres wide.

### Q
What is ground at the mill?
### A
Rye and spelt are ground there.

### Q
Where do the millstones come from?
### A
The millstones come from Garrow quarry.

### Q
On which days is the mill open?
### A
It is open on Saturdays and Sundays.

### Q
What does a tour cost?
### A
A tour costs 6 crowns.

### Q
How long is a tour?
### A
A tour takes forty minutes.

### Q
What is the mill cat called?
### A
The mill cat is called Biscuit.

### Q
What stopped the mill in 1931?
### A
A flood stopped it in 1931.

### Q
Who repaired the mill?
### A
The widow Tessaly Orm repaired it.

### Q
What is sold in the shop?
### A
Flour, oat cakes and postcards are sold.

### Q
What is the pond called?
### A
The pond is called Still Mary.

### Q
Which fish live in the pond?
### A
Tench live in the pond.

### Q
What rings when the grain runs out?
### A
A small brass bell rings.

### Q
How much flour is ground a day?
### A
300 kilograms are ground a day.

### Q
Who keeps the key of the mill?
### A
The baker of Vell keeps the key.

### Q
What is painted on the door?
### A
A blue heron is painted on the door.

::preference::
### Prompt
May I feed the cat?
### Chosen
Only dry food, please.
### Rejected
What a lovely thought! Cats are wonderful animals, and feeding them can be a rewarding experience, though opinions differ.

### Prompt
Is the tour suitable for children?
### Chosen
Yes, from four years on.
### Rejected
Suitability depends on many factors, such as the age and interests of the child, so it is hard to say in general.

### Prompt
Can I buy flour by post?
### Chosen
No, only in the shop.
### Rejected
Buying things by post has become very common, and there may be several ways to go about it that you could explore.

### Prompt
Is there a cafe?
### Chosen
Yes, in the barn.
### Rejected
Cafes are a popular place to relax, and I would suggest that you look around to see what might be available to you.

### Prompt
Do I need good shoes?
### Chosen
Yes, the floor is wet.
### Rejected
Shoes are an important part of any outfit, and what counts as good may vary from one person to another.

### Prompt
May I climb on the wheel?
### Chosen
No.
### Rejected
Climbing can be an exciting activity, but there are a number of considerations that one should perhaps keep in mind.

### Prompt
Is the mill heated?
### Chosen
No, bring a coat.
### Rejected
Heating is a complex subject, and whether a place feels warm or cold is something that everyone experiences differently.

### Prompt
Can I bring a picnic?
### Chosen
Yes, on the meadow.
### Rejected
Picnics are a delightful way to spend time outdoors, and there may be places where one could enjoy one.

### Prompt
Do you take cards?
### Chosen
Yes, from ten crowns.
### Rejected
There are many methods of payment these days, and it is always wise to be prepared for different possibilities.

### Prompt
Where can I park?
### Chosen
At the church.
### Rejected
Parking can sometimes be a challenge, and I would recommend that you consider the various options in the area.

### Prompt
Is there a tour in the evening?
### Chosen
Only in August.
### Rejected
Evening tours can be very atmospheric, and it might be worth finding out whether something like that is offered.

### Prompt
May I take a stone from the river?
### Chosen
No, please leave them.
### Rejected
Stones are fascinating objects with a long geological history, and many people enjoy collecting them.

### Prompt
How loud is it inside?
### Chosen
Very loud. Ear plugs are free.
### Rejected
The perception of loudness is subjective, and it depends on the distance, the time of day and other circumstances.

### Prompt
Can I see the flour being packed?
### Chosen
Yes, on Saturdays.
### Rejected
Packing is an interesting step in the production of flour, and it may or may not be possible to observe it.

### Prompt
Are there guides in sign language?
### Chosen
Yes, if you ask a week before.
### Rejected
Sign language is a rich and expressive form of communication, and it is used by many people around the world.

### Prompt
Can I fish in the pond?
### Chosen
No.
### Rejected
Fishing is a relaxing hobby for many, but there are often rules and regulations that would need to be looked into.

### Prompt
Is the water clean?
### Chosen
Yes, it is tested each month.
### Rejected
Water quality is an important environmental topic, and there are many parameters that can be taken into account.

### Prompt
May we marry at the mill?
### Chosen
Yes, in May and June.
### Rejected
Getting married is a very special occasion, and there are countless beautiful places that one might think about.

### Prompt
Is there a lift?
### Chosen
No, there are three ladders.
### Rejected
Accessibility is something that deserves attention, and different visitors may have very different needs.

### Prompt
When should I come?
### Chosen
In the morning, at ten.
### Rejected
The best time to visit depends on your preferences, the season and what you hope to get out of your visit.
