//! `case-files.md`: the keys of a case, as its reader says that it expects them.

use dlm_plugins::trial::answers::ANSWERS;
use dlm_plugins::trial::keys::{CaseKeys, places};

const HEAD: &str = "# Case files\n\nWritten by `cargo xtask docs` out of their reader. A case is a JSON file in `cases/` beside a plugin: what the \
plugin is asked, what the host answers it meanwhile, and what it must say. `dlm plugin test` runs them. A key that is not listed here is an \
error. [Writing plugins](../guides/plugins-write.md) explains them.\n";

/// The page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for CaseKeys { title, about, keys } in places() {
        out.push_str(&format!("\n## {title}\n\n{about}\n\n| key | meaning |\n|---|---|\n"));
        for (key, meaning) in keys {
            out.push_str(&format!("| `{key}` | {meaning} |\n"));
        }
    }
    out.push_str(ANSWERS_HEAD);
    let ticked = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    for answer in &ANSWERS {
        out.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} |\n",
            answer.list,
            answer.key,
            ticked(answer.request),
            ticked(answer.answer),
            answer.meaning
        ));
    }
    out
}

const ANSWERS_HEAD: &str = "\n## Answers of the host\n\nEach answer of `host.model`, `host.http` and `host.process` holds the request that it is \
for, of which only the keys that matter need be given, and the answer beside it. `\"error\": \"unavailable\"`, or another word of the \
contract, makes the host fail instead.\n\n| list | request under | keys of the request | keys beside it | what it is |\n|---|---|---|---|---|\n";
