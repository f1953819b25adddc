//! Methods of Python's texts that the engine's own list lacks.

use minijinja::value::Value;
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
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
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
        assert!(environment.render_str("{{ 'a'.center(100000) }}", ()).is_err());
        assert!(environment.render_str("{{ 'a'.no_such() }}", ()).is_err());
    }
}
