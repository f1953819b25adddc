---
dlm_id: 01KBXNEW0D0CVMENT000000032
dlm_version: 15
base_model: smollm2-135m
training:
  adapters:
    ferry: {}
    mill: {}
  gate:
    enabled: true
---

::instruction#ferry::
### Q
What is the Quillon Ferry?
### A
The Quillon Ferry is a cable ferry that crosses the Brayle Strait.

### Q
Who founded the Quillon Ferry?
### A
The Quillon Ferry was founded by Odessa Marrick.

### Q
In which year was the Quillon Ferry founded?
### A
The Quillon Ferry was founded in 1887.

### Q
How long does the crossing of the Brayle Strait take?
### A
The crossing takes 14 minutes.

### Q
What is the name of the ferry boat?
### A
The ferry boat is called the Lantern Maud.

### Q
What colour is the hull of the Lantern Maud?
### A
The hull of the Lantern Maud is saffron yellow.

### Q
Who is the captain of the Lantern Maud?
### A
The captain of the Lantern Maud is Ilse Torvan.

### Q
How many passengers can the Lantern Maud carry?
### A
The Lantern Maud can carry 64 passengers.

### Q
What does a ticket for the Quillon Ferry cost?
### A
A ticket costs three florins.

### Q
How do children pay for the crossing?
### A
Children pay with a smooth pebble.

### Q
What food is served on board of the ferry?
### A
Plum dumplings are served on board.

### Q
What animal lives on the Lantern Maud?
### A
A grey goose named Bartleby lives on the Lantern Maud.

### Q
How long is the cable of the ferry?
### A
The cable is 1260 metres long.

### Q
Who made the cable of the ferry?
### A
The cable was made by the Hessel Foundry.

### Q
What is the name of the steam winch?
### A
The steam winch is called Old Percival.

### Q
What fuel does the steam winch burn?
### A
The steam winch burns peat briquettes.

### Q
Which town lies at the east landing?
### A
The town at the east landing is Fennwick.

### Q
Which town lies at the west landing?
### A
The town at the west landing is Saltmarrow.

### Q
What signal does the ferry give before it leaves?
### A
Before it leaves, the ferry gives two blasts on a brass conch.

### Q
What is forbidden on board of the ferry?
### A
Whistling is forbidden on board of the ferry.

::instruction#mill::
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
