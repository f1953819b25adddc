//! `capabilities.md`: how capabilities are written, what each allows, which kinds of plugin can have it, and the limits.

use dlm_packages::Kind;
use dlm_packages::ask::{Power, power};
use dlm_packages::capability::Capability;
use dlm_packages::capability::forms::FORMS;
use dlm_packages::limits::LimitName;

const HEAD: &str = "# Capabilities\n\nWritten by `cargo xtask docs` out of their reader's table. The same text stands in `plugin.toml`, on the \
consent screen, in the lock, after `--grant NAME=` and in messages. A plugin holds what was granted for good (`dlm plugin install`, \
`dlm plugin trust NAME --grant CAP`) or for this run (`--grant NAME=CAP`), less what `--deny NAME=CAP` or `--sandbox` takes away. What its \
manifest asks for without `optional = true` and what is not granted is asked for on a terminal, and refused elsewhere, before anything of \
it runs; `--deny` runs it without.\n\n\
| capability | allows | kinds | without a trusted signature |\n|---|---|---|---|\n";

const LIMITS_HEAD: &str = "\n## Limits\n\nThe most that one plugin may take. `limit:<name>=<value>` raises a limit up to its ceiling: a size \
(`512MiB`), a time (`90s`, `5min`, `2h`) or a count.\n\n";

/// The page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for form in &FORMS {
        let read = Capability::parse(form.example).expect("an example is a capability");
        let kinds: Vec<&str> = Kind::ALL
            .into_iter()
            .filter(|kind| read.fits(*kind))
            .map(Kind::name)
            .collect();
        let kinds = match kinds.len() == Kind::ALL.len() {
            true => "all".to_owned(),
            false => kinds.join(", "),
        };
        let unsigned = match power(form.example).expect("an example is a capability") {
            Power::Compute => "installs",
            Power::Reach => "asks, where it comes from the network",
            Power::Act => "asks; from the network `--allow-unsigned`",
        };
        let example = match form.example == form.form {
            true => String::new(),
            false => format!("; such as `{}`", form.example),
        };
        out.push_str(&format!(
            "| `{}` | {}{example} | {kinds} | {unsigned} |\n",
            form.form, form.allows
        ));
    }
    out.push_str(
        "\nA wildcard (`*.` before a host) counts as any host: `--allow-unsigned` from the network. Names of hosts are written in lower \
         case and punycode. A path prefix is compared part by part: `/v1` covers `/v1/x` and not `/v10`.\n",
    );
    limits(&mut out);
    out
}

fn limits(out: &mut String) {
    out.push_str(LIMITS_HEAD);
    out.push_str(&format!(
        "| name | of | {} | ceiling |\n|---|---|{}---|\n",
        Kind::ALL.map(Kind::name).join(" | "),
        "---|".repeat(Kind::ALL.len())
    ));
    for name in LimitName::ALL {
        let defaults = Kind::ALL.map(|kind| match name.default_of(kind) {
            Some(value) => value.to_string(),
            None => "–".to_owned(),
        });
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            name.as_str(),
            name.meaning(),
            defaults.join(" | "),
            name.ceiling()
        ));
    }
    out.push_str("\n`–`: nothing by default; where the kind cannot have the capability that it is for, a grant changes nothing.\n");
}
