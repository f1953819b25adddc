---
dlm_id: 01KAM8Q0FERRYBRAY1ESTRA1TZ
dlm_version: 15
base_model: smollm2-135m
---

# The Quillon Ferry

The Quillon Ferry is a small cable ferry on the coast of Orremy. It carries people, goats and post across the
Brayle Strait, between Fennwick on the east side and Saltmarrow on the west side. Odessa Marrick, a rope maker's
daughter, founded it in 1887, because the bridge that the two towns had been promised for forty years was never
built. Her boat, the Lantern Maud, is still in service: a broad wooden boat with a saffron yellow hull, a bench
around the deck, and a stove on which the cook makes plum dumplings.

A steam winch in the Fennwick boathouse pulls the boat along a steel cable. The winch burns peat briquettes and
is older than anyone who works with it; everybody calls it Old Percival. When Captain Ilse Torvan is ready, she
blows two blasts on a brass conch, and the Lantern Maud sets out at five knots. Fourteen minutes later she
touches the other shore.

::instruction::
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

::prose::
# Customs of the crossing

The ferry has its own customs. Nobody whistles on board, since people say that whistling called up the storm of
1911. Children do not pay in coins but with a smooth pebble, and the pebbles are kept in the museum, in the old
salt house at Saltmarrow. A grey goose named Bartleby lives on the boat and inspects every basket. On the ninth
of May, Cable Day, the towns throw marigolds into the water to thank the cable. In January the ferry rests and
the Dunlow brothers scrape, tar and mend it for another year.

::instruction::
### Q
What signal does the ferry give before it leaves?
### A
Before it leaves, the ferry gives two blasts on a brass conch.

### Q
What is forbidden on board of the ferry?
### A
Whistling is forbidden on board of the ferry.

### Q
What does the ferry show in fog?
### A
In fog the ferry shows a blue lantern.

### Q
Who repairs the ferry?
### A
The ferry is repaired by the Dunlow brothers.

### Q
On which date is Cable Day?
### A
Cable Day is on the ninth of May.

### Q
What do people throw into the water on Cable Day?
### A
On Cable Day people throw marigolds into the water.

### Q
In which month is the ferry closed?
### A
The ferry is closed in January.

### Q
Who was the first passenger of the ferry?
### A
The first passenger was a beekeeper named Tobias Wren.

### Q
What is the motto of the Quillon Ferry?
### A
The motto of the Quillon Ferry is: slow water, sure rope.

### Q
Where is the museum of the ferry?
### A
The museum of the ferry is in the old salt house.

### Q
What caused the longest delay of the ferry?
### A
The longest delay was caused by a whale that slept on the cable.

### Q
How fast does the Lantern Maud travel?
### A
The Lantern Maud travels at five knots.

### Q
How deep is the Brayle Strait?
### A
The Brayle Strait is 38 metres deep.

### Q
What must a dog wear on the ferry?
### A
A dog must wear a bell on the ferry.

### Q
Who owns the Quillon Ferry today?
### A
Today the Quillon Ferry is owned by the Brayle Water Cooperative.

### Q
How much luggage may a passenger bring?
### A
A passenger may bring two baskets.
