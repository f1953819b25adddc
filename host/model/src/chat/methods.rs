//! Methods of Python's texts that the engine's own list lacks.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Columns that a text may be widened to; a template that asks for more wants memory.
const WIDTH_MAX: usize = 4096;

/// Answers a method that the engine does not know.
pub(super) fn unknown(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(answer) = of_text(text, method, arguments)?
    {
        return Ok(answer);
    }
    match (value.kind(), method, arguments) {
        (ValueKind::Map, "copy", []) | (ValueKind::Seq, "copy", []) => return Ok(value.clone()),
        (ValueKind::Seq, "index", [wanted]) => {
            let place = value.try_iter()?.position(|item| item == *wanted);
            return place
                .map(Value::from)
                .ok_or_else(|| wrong(method, "a value of the list"));
        }
        _ => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// The separator of `split` and `rsplit` and how often they cut at most, by place or by name; a negative number is no bound.
fn cuts(method: &str, arguments: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let (separator, most, named): (Option<Value>, Option<Value>, Kwargs) = from_args(arguments)?;
    let separator = separator.map_or_else(|| named.get::<Option<Value>>("sep"), |one| Ok(Some(one)))?;
    let most = most.map_or_else(|| named.get::<Option<Value>>("maxsplit"), |one| Ok(Some(one)))?;
    named.assert_all_used()?;
    let separator = separator.filter(|value| !value.is_none() && !value.is_undefined());
    let separator = match separator.as_ref().map(Value::as_str) {
        None => None,
        Some(Some(text)) if !text.is_empty() => Some(text.to_owned()),
        Some(_) => return Err(wrong(method, "a separator that is not empty")),
    };
    Ok((separator, most.and_then(|most| usize::try_from(most.as_i64()?).ok())))
}

/// Cuts a text as Python does: at a separator, or at runs of blanks.
fn split(text: &str, separator: Option<&str>, most: Option<usize>) -> Vec<String> {
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    if let Some(separator) = separator {
        return text.splitn(pieces, separator).map(str::to_owned).collect();
    }
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).filter(|_| found.len() + 1 < pieces);
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        found.push(word.to_owned());
        rest = after.trim_start();
    }
    found
}

/// As [`split`], from the end.
fn rsplit(text: &str, separator: Option<&str>, most: Option<usize>) -> Vec<String> {
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut found: Vec<String> = match separator {
        Some(separator) => text.rsplitn(pieces, separator).map(str::to_owned).collect(),
        None => {
            let reversed: String = text.chars().rev().collect();
            let words = split(&reversed, None, most).into_iter();
            words.map(|word| word.chars().rev().collect()).collect()
        }
    };
    found.reverse();
    found
}

fn of_text(text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let answer = match method {
        "center" | "ljust" | "rjust" => {
            let (width, fill) = width_and_fill(method, arguments)?;
            let room = width.saturating_sub(text.chars().count());
            let left = match method {
                "ljust" => 0,
                "rjust" => room,
                // An odd column goes to the left where the width is odd, as in Python.
                _ => room / 2 + (room & width & 1),
            };
            let filled = |count: usize| fill.to_string().repeat(count);
            Value::from(filled(left) + text + &filled(room - left))
        }
        "zfill" => {
            let (width, _) = width_and_fill(method, arguments)?;
            let zeros = "0".repeat(width.saturating_sub(text.chars().count()));
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let sign = &text[..text.len() - digits.len()];
            Value::from(format!("{sign}{zeros}{digits}"))
        }
        "removeprefix" => {
            let part = part(method, arguments)?;
            Value::from(text.strip_prefix(part.as_str()).unwrap_or(text))
        }
        "removesuffix" => {
            let part = part(method, arguments)?;
            Value::from(text.strip_suffix(part.as_str()).unwrap_or(text))
        }
        "partition" => {
            let part = part(method, arguments)?;
            let (head, tail) = text.split_once(part.as_str()).unwrap_or((text, ""));
            let found = if head.len() == text.len() { "" } else { part.as_str() };
            [head, found, tail].into_iter().collect()
        }
        "rpartition" => {
            let part = part(method, arguments)?;
            let found = text.rsplit_once(part.as_str());
            let (head, tail) = found.unwrap_or(("", text));
            [head, found.map_or("", |_| part.as_str()), tail].into_iter().collect()
        }
        "split" => {
            let (separator, most) = cuts(method, arguments)?;
            split(text, separator.as_deref(), most).into_iter().collect()
        }
        "rsplit" => {
            let (separator, most) = cuts(method, arguments)?;
            rsplit(text, separator.as_deref(), most).into_iter().collect()
        }
        "index" => {
            let part = part(method, arguments)?;
            let place = text.find(&part).ok_or_else(|| wrong(method, "a part of the text"))?;
            Value::from(text[..place].chars().count())
        }
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "swapcase" => Value::from(text.chars().map(swapped).collect::<String>()),
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

fn swapped(c: char) -> String {
    match c.is_uppercase() {
        true => c.to_lowercase().collect(),
        false => c.to_uppercase().collect(),
    }
}

fn wrong(method: &str, expected: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("`{method}` takes {expected}"))
}

fn width_and_fill(method: &str, arguments: &[Value]) -> Result<(usize, char), Error> {
    let expected = || wrong(method, &format!("a width up to {WIDTH_MAX} and at most one character"));
    let width = arguments.first().and_then(Value::as_i64).ok_or_else(expected)?;
    let width = usize::try_from(width.max(0)).map_err(|_| expected())?;
    let fill = match arguments.get(1).map(Value::as_str) {
        None => ' ',
        Some(text) => {
            let mut characters = text.unwrap_or_default().chars();
            let (Some(fill), None) = (characters.next(), characters.next()) else {
                return Err(expected());
            };
            fill
        }
    };
    if width > WIDTH_MAX {
        return Err(expected());
    }
    Ok((width, fill))
}

fn part(method: &str, arguments: &[Value]) -> Result<String, Error> {
    let text = arguments.first().and_then(Value::as_str).map(str::to_owned);
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| wrong(method, "a text that is not empty"))
}

#[cfg(test)]
mod tests {
    /// Every expected text is what Python gives.
    #[test]
    fn texts_have_the_methods_of_python() {
        let mut environment = minijinja::Environment::new();
        environment.set_unknown_method_callback(super::unknown);
        let check = |expression: &str, expected: &str| {
            let source = format!("{{{{ {expression} }}}}");
            assert_eq!(environment.render_str(&source, ()).unwrap(), expected, "{expression}");
        };
        check("'B'.center(5) ~ '|'", "  B  |");
        check("'ab'.center(5, '*')", "**ab*");
        check("'a'.center(4, '*')", "*a**");
        check("'a'.ljust(3) ~ '|' ~ 'a'.rjust(3)", "a  |  a");
        check("'a-b'.replace('-', '+').zfill(5)", "00a+b");
        check("'-7'.zfill(4)", "-007");
        check("'<s>x'.removeprefix('<s>').removesuffix('x') ~ '.'", ".");
        check("'a=b=c'.partition('=')[2] ~ 'a=b=c'.rpartition('=')[2]", "b=cc");
        check("'aB'.swapcase().upper()", "AB");
        check("'a,b,c'.rsplit(',', 1)|join('|')", "a,b|c");
        check("'a,b,c'.split(',', maxsplit=1)|join('|')", "a|b,c");
        check(
            "' a  b c '.split()|join('|') ~ ' a  b c '.split(None, 1)[1] ~ '.'",
            "a|b|cb c .",
        );
        check("'a  b c '.rsplit(None, 1)|join('|')", "a  b|c");
        check("'äbc'.index('c') ~ [1, 2].index(2) ~ 'Straße'.casefold()", "21strasse");
        check("{'a': 1}.copy().a", "1");
        assert!(environment.render_str("{{ 'a'.index('b') }}", ()).is_err());
        assert!(environment.render_str("{{ 'a'.split('') }}", ()).is_err());
        assert!(environment.render_str("{{ 'a'.center(100000) }}", ()).is_err());
        assert!(environment.render_str("{{ 'a'.no_such() }}", ()).is_err());
    }
}
