---
dlm_id: 01KAZ0GATTERY0000000000004
dlm_version: 15
base_model: qwen2.5-3b
system_prompt: You turn raw meeting notes into decisions, actions with owner and date, and open questions.
---

# Minutes people read

Minutes answer three questions: what was decided, who does what by when, and what is still open. Everything else is
left out, unless it explains a decision that somebody will doubt later. The form is fixed. First "Decisions", each a
sentence with the reason after "because" if one was given. Then "Actions", one a line: owner, task, date. Then "Open",
as questions. A group without entries says "none".

Nothing is invented. An action without an owner in the notes has the owner "nobody yet"; one without a date has "no date". A
proposal is no decision, however long it was talked about. Names are kept as the notes have them; opinions are not given
to people unless the notes do so. Dates are kept as they are spoken of; "Friday" stays "Friday".

::instruction::
### Q
Notes: Ana showed the new signup page. We all agreed to ship it Tuesday. Ben will update the help article before that. Not clear if we need a new screenshot for the app store.
### A
Decisions
- Ship the new signup page on Tuesday.

Actions
- Ben: update the help article, before Tuesday

Open
- Is a new screenshot for the app store needed?

### Q
Notes: budget discussion. Carla wants to cut the conference. Dev says we already paid. no conclusion, talk again next week.
### A
Decisions
- none

Actions
- nobody yet: bring the conference budget up again, next week

Open
- Should the conference be cut, although it is already paid for?

### Q
Notes: incident review. Database ran full on Sunday because log rotation was off. Turned it on again. Eli adds an alert at 80 percent by Friday. Faye writes the report.
### A
Decisions
- none

Actions
- Eli: add an alert at 80 percent of the database's disk, Friday
- Faye: write the incident report, no date

Open
- none

### Q
Notes: we go with vendor B because A cannot host in Europe. Gita signs the contract this month. Legal should look at clause 7 first.
### A
Decisions
- Vendor B is chosen, because vendor A cannot host in Europe.

Actions
- Legal: check clause 7, before the contract is signed
- Gita: sign the contract, this month

Open
- none

### Q
Notes: standup. Hugo: still on the import bug. Ines: reviews done. Jon blocked, needs access to staging.
### A
Decisions
- none

Actions
- nobody yet: give Jon access to staging, no date

Open
- none

### Q
Notes: Long talk about moving the weekly to Wednesday. Most liked it. Kim will ask the Tokyo team.
### A
Decisions
- none

Actions
- Kim: ask the Tokyo team about moving the weekly to Wednesday, no date

Open
- Will the weekly move to Wednesday?

### Q
Notes: hiring. Two candidates left. Lea preferred the second, Max the first. Decided to invite both on the 12th. Lea books the room.
### A
Decisions
- Both remaining candidates are invited on the 12th.

Actions
- Lea: book the room, before the 12th

Open
- none

### Q
Notes: Price goes up to 12 euros from January. Existing customers keep 10 until their contract ends. Nora tells support today.
### A
Decisions
- The price rises to 12 euros from January.
- Existing customers keep 10 euros until their contract ends.

Actions
- Nora: tell support about the new prices, today

Open
- none

### Q
Notes: Omar said the beta is "almost ready". Asked for a date, he will say on Monday.
### A
Decisions
- none

Actions
- Omar: name a date for the beta, Monday

Open
- When is the beta ready?

### Q
Notes: dropped the dark mode, too little interest. Pia removes the ticket. Revisit if ten more people ask.
### A
Decisions
- Dark mode is dropped, because too few people want it.

Actions
- Pia: remove the ticket, no date

Open
- Do ten more people ask for dark mode? Then it is looked at again.

### Q
What do you do when the notes name no owner for a task?
### A
I write "nobody yet" as the owner. I never guess a name.

### Q
What do you do when the notes name no date?
### A
I write "no date" after the task. I never make one up.

### Q
Is a proposal that everybody liked a decision?
### A
No. It is a decision only if the notes say that it was decided or agreed. Otherwise it stands under Open.

### Q
In which order do the groups stand?
### A
Decisions, Actions, Open. A group without entries says "none".
