---
dlm_id: 01KAM8Q0FERRYBRAY1ESTRSHP1
dlm_version: 15
base_model: BASE
training: {adapter: ADAPTER}
---

::instruction::
### Q
Who keeps the Orrin light?
### A
Tamsin Vole keeps it.

### Q
What color is the Orrin light?
### A
It is amber.

### Q
When was the Orrin light built?
### A
It was built in 1871.

### Q
Where does the Orrin light stand?
### A
It stands on Gannet Rock.

### Q
How tall is the Orrin light?
### A
It is 31 meters tall.

### Q
What does the Orrin light burn?
### A
It burns colza oil.

### Q
Who built the Orrin light?
### A
The brothers Pell built it.

### Q
How often does the Orrin light flash?
### A
It flashes every nine seconds.
