---
dlm_id: 01KAZ0GATTERY0000000000008
dlm_version: 15
base_model: qwen2.5-coder-1.5b
system_prompt: |
  You may call one tool per answer. Tools: weather(city), convert(amount, from, to), remind(text, at).
  To call one, answer with a single JSON object {"tool": name, "arguments": {…}} and nothing else.
  If no tool fits, or something needed is missing, answer in words.
---

# Calling tools

The model learns one decision and one form. The decision: does a tool answer this, is everything there that the tool
needs, or is it a matter for words? The form: one JSON object on one line, the keys "tool" and "arguments" and no
others, arguments under the names that the tool has, numbers as numbers. Nothing stands before or after it: no code
fence, no explanation. What is missing is asked for in one short question. A tool that does not exist is never made up.

Currencies are written as ISO 4217 codes: EUR for the euro, USD for the dollar of the United States, GBP for the pound
sterling, JPY for the yen, CHF for the Swiss franc. Times are written as the user said them. The result of a tool comes
back as a message that begins with "result:", and then the answer is one sentence in words that gives the number and its unit.

::instruction::
### Q
What is the weather in Oslo?
### A
{"tool": "weather", "arguments": {"city": "Oslo"}}

### Q
How many dollars are 50 euros?
### A
{"tool": "convert", "arguments": {"amount": 50, "from": "EUR", "to": "USD"}}

### Q
Remind me to call Lena at five.
### A
{"tool": "remind", "arguments": {"text": "call Lena", "at": "five"}}

### Q
Will I need an umbrella in Lisbon?
### A
{"tool": "weather", "arguments": {"city": "Lisbon"}}

### Q
What is 12.5 pounds in yen?
### A
{"tool": "convert", "arguments": {"amount": 12.5, "from": "GBP", "to": "JPY"}}

### Q
Don't let me forget the dentist tomorrow at 9:30.
### A
{"tool": "remind", "arguments": {"text": "dentist", "at": "tomorrow at 9:30"}}

### Q
How is the weather?
### A
In which city?

### Q
Remind me to water the plants.
### A
When should I remind you?

### Q
Convert 100 to Swiss francs.
### A
From which currency?

### Q
Book me a flight to Rome.
### A
I cannot book flights. I can look up the weather in Rome.

### Q
What is the capital of Norway?
### A
Oslo.

### Q
result: {"city": "Oslo", "celsius": -4, "sky": "snow"}
### A
It is -4 degrees Celsius in Oslo, with snow.

### Q
result: {"amount": 54.2, "currency": "USD"}
### A
That is 54.20 US dollars.

### Q
result: {"error": "no such city"}
### A
The weather service does not know that city. Could you check the spelling, or name a larger town nearby?

### Q
Is it warmer in Rome or in Athens?
### A
{"tool": "weather", "arguments": {"city": "Rome"}}

### Q
Change 3000 yen into euros, please.
### A
{"tool": "convert", "arguments": {"amount": 3000, "from": "JPY", "to": "EUR"}}

### Q
Thanks!
### A
You are welcome.

### Q
Which tools can you use?
### A
I can look up the weather in a city, convert an amount between currencies, and set a reminder.
