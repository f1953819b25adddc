//! Python's `%` between a text and its arguments, which the template engine has as a filter only.
//!
//! Invariant: only a text that stands in the template as such is taken for a pattern; everything else keeps its meaning.

/// Writes `'…' % x` as `'…'|format(x)`: the same text, and the filter binds at least as tightly.
pub(super) fn as_filter(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = match tag.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let length = if end == "#}" {
            tag.find(end).map(|at| at + 2)
        } else {
            tag_length(tag, end)
        };
        let Some(length) = length else {
            // The engine says where an open tag stands.
            out.push_str(tag);
            return out;
        };
        let (inner, after) = tag.split_at(length);
        out.push_str(&if end == "#}" {
            inner.to_owned()
        } else {
            expression(inner)
        });
        rest = after;
        if is_raw(inner) {
            let raw = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..raw]);
            rest = &rest[raw..];
        }
    }
    out + rest
}

fn is_raw(tag: &str) -> bool {
    let word = tag.trim_matches(|c: char| c.is_whitespace() || "{%}-+".contains(c));
    word == "raw"
}

/// Bytes of a tag up to and with its end, quoted texts skipped.
fn tag_length(tag: &str, end: &str) -> Option<usize> {
    let mut at = 2;
    while at < tag.len() {
        if tag[at..].starts_with(end) {
            return Some(at + end.len());
        }
        at += token(&tag[at..])?;
    }
    None
}

/// Bytes of the next token: a quoted text, a name or number, or one character.
fn token(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '\'' || first == '"' {
        let mut is_escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                c if c == first => return Some(at + 1),
                _ => {}
            }
        }
        return None;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if is_word(first) {
        return Some(text.find(|c| !is_word(c)).unwrap_or(text.len()));
    }
    Some(first.len_utf8())
}

/// Rewrites the inside of a tag.
fn expression(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut at = 0;
    while at < tag.len() {
        let length = token(&tag[at..]).unwrap_or(tag.len() - at);
        let piece = &tag[at..at + length];
        out.push_str(piece);
        at += length;
        let is_text = piece.starts_with(['\'', '"']) && piece.len() > 1;
        let after = tag[at..].trim_start();
        // The end of a tag begins with a percent sign, too.
        let operand = after.strip_prefix('%').filter(|rest| is_text && !rest.starts_with('}'));
        let Some(operand) = operand.map(str::trim_start) else {
            continue;
        };
        let Some(length) = operand_length(operand) else {
            continue;
        };
        let argument = expression(&operand[..length]);
        match argument.starts_with('(') && matching(&argument) == Some(argument.len()) {
            // A tuple's members are the arguments, and a comma at its end is none of them.
            true => out.push_str(&format!("|format{}", without_last_comma(&argument))),
            false => out.push_str(&format!("|format({argument})")),
        }
        at = tag.len() - operand.len() + length;
    }
    out
}

fn without_last_comma(tuple: &str) -> String {
    let inner = tuple[1..tuple.len() - 1].trim_end();
    format!("({})", inner.strip_suffix(',').unwrap_or(inner))
}

/// Bytes of what follows a percent sign: a group, a text, a name or a number, with members, calls and filters behind it.
fn operand_length(text: &str) -> Option<usize> {
    let mut at = match text.chars().next()? {
        '(' | '[' => matching(text)?,
        c if c.is_alphanumeric() || "_'\"".contains(c) => token(text)?,
        _ => return None,
    };
    loop {
        let rest = &text[at..];
        at += match rest.chars().next() {
            Some('(' | '[') => matching(rest)?,
            Some('.' | '|') => {
                let name = rest[1..].trim_start();
                if !name.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                    return Some(at);
                }
                rest.len() - name.len() + token(name)?
            }
            _ => return Some(at),
        };
    }
}

/// Bytes of a bracketed group.
fn matching(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let length = token(&text[at..])?;
        match &text[at..at + length] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += length;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::as_filter;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(as_filter(source), expected);
        let rendered = |text: &str| {
            minijinja::Environment::new().render_str(text, minijinja::context! { d => "Mon", n => 3, m => [1] })
        };
        assert!(
            rendered(&as_filter(source)).is_ok(),
            "{:?}",
            rendered(&as_filter(source))
        );
    }

    #[test]
    fn a_pattern_takes_its_arguments() {
        check("{{ 'Today %s, %d' % (d, 3) }}", "{{ 'Today %s, %d'|format(d, 3) }}");
        check("{{ 'a' + '%s' % d + 'b' }}", "{{ 'a' + '%s'|format(d) + 'b' }}");
        check(
            "{% set x = \"%s\" % d|upper %}{{ x }}",
            "{% set x = \"%s\"|format(d|upper) %}{{ x }}",
        );
        check("{{ '%s' % (d,) }}", "{{ '%s'|format(d) }}");
        check("{{ '%s' % ('%d' % n) }}", "{{ '%s'|format('%d'|format(n)) }}");
        check("{{ '%02d' % m[0] }}", "{{ '%02d'|format(m[0]) }}");
        check("{{ '%s' % 'it\\'s' }}", "{{ '%s'|format('it\\'s') }}");
    }

    #[test]
    fn everything_else_stays() {
        for source in [
            "{{ n % 2 }} 100 % (x) {# 'a' % b #}",
            "{% if n % 2 == 0 %}'x' % y{% endif %}",
            "{% set x = 'a' %}",
            "{%- set x = '100%' -%}{{ x }}",
            "{% raw %}{{ '%s' % d }}{% endraw %}",
            "a { b } {{ '%}' }}",
        ] {
            check(source, source);
        }
        assert_eq!(as_filter("{{ 'open"), "{{ 'open");
    }
}
