//! What chat templates expect of their environment beyond Jinja itself.
//!
//! Invariants: behaves as the reference's environment (`transformers`, `utils/chat_template_utils.py`); the clock always
//! says [`PINNED_DATE`], so that a rendering is the same today and tomorrow.

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};

use super::json::tojson;

/// Year, month and day that templates are told: the date that Llama's templates fall back to without a clock.
pub const PINNED_DATE: (u32, u32, u32) = (2024, 7, 26);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The pinned date's weekday.
const WEEKDAY: &str = "Friday";
/// The pinned date's number in its year.
const DAY_OF_YEAR: u32 = 208;

/// Adds the functions and filters.
pub(crate) fn install(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| strftime(format));
    environment.add_function("cycler", |items: Rest<Value>| {
        minijinja_contrib::globals::cycler(items.0)
    });
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_filter("tojson", tojson);
    environment.add_filter("wordcount", wordcount);
    environment.set_formatter(print);
}

/// Prints a value as Python does: `None`, `True` and `False` begin with a capital letter.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let word = match value {
        value if value.is_none() => "None",
        value if *value == Value::from(true) && value.kind() == ValueKind::Bool => "True",
        value if value.kind() == ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    Ok(std::fmt::Write::write_str(out, word)?)
}

/// The source as Jinja reads it: line ends of other systems are line feeds.
pub(crate) fn with_line_feeds(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// Runs of letters, digits and `_`, as Jinja counts them.
fn wordcount(text: &str) -> usize {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty()).count()
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `strftime` at midnight of the pinned date.
fn strftime(format: &str) -> Result<String, Error> {
    let (year, month, day) = PINNED_DATE;
    let month_name = MONTHS[month as usize - 1];
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut code = letters.next();
        let plain = code == Some('-');
        if plain {
            code = letters.next();
        }
        let two = |number: u32| {
            if plain {
                number.to_string()
            } else {
                format!("{number:02}")
            }
        };
        match code {
            Some('Y') => text.push_str(&year.to_string()),
            Some('y') => text.push_str(&two(year % 100)),
            Some('m') => text.push_str(&two(month)),
            Some('d') => text.push_str(&two(day)),
            Some('e') => text.push_str(&format!("{day:>2}")),
            Some('B') => text.push_str(month_name),
            Some('b' | 'h') => text.push_str(&month_name[..3]),
            Some('A') => text.push_str(WEEKDAY),
            Some('a') => text.push_str(&WEEKDAY[..3]),
            Some('j') => text.push_str(&DAY_OF_YEAR.to_string()),
            Some('H' | 'M' | 'S') => text.push_str(&two(0)),
            Some('I') => text.push_str("12"),
            Some('p') => text.push_str("AM"),
            Some('F') => text.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => text.push_str("00:00:00"),
            Some('Z' | 'z') => {}
            Some('%') => text.push('%'),
            other => {
                let other = other.map_or_else(String::new, String::from);
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("`strftime_now` does not know `%{other}`"),
                ));
            }
        }
    }
    Ok(text)
}

/// Replaces the reference's `{% generation %}` tags, which mark answers for a mask that we find otherwise, by a
/// condition that is always true: the same text, the same blanks.
pub(crate) fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, tag_on) = rest.split_at(start);
        let (tag, after) = tag_on.split_at(length + 2);
        text.push_str(before);
        let inner = &tag[2..tag.len() - 2];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::{strftime, with_line_feeds, without_generation_tags};

    #[test]
    fn line_ends_of_other_systems_are_line_feeds() {
        assert_eq!(with_line_feeds("a\r\nb\rc\n"), "a\nb\nc\n");
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        let mut environment = minijinja::Environment::new();
        super::install(&mut environment);
        let source = "{{ none }} {{ true }} {{ 1 == 2 }} {{ 1.0 }} {{ 1 }} {{ absent }} {{ '<' }}";
        assert_eq!(environment.render_str(source, ()).unwrap(), "None True False 1.0 1  <");
    }

    #[test]
    fn words_are_counted_and_globals_of_jinja_are_there() {
        let mut environment = minijinja::Environment::new();
        super::install(&mut environment);
        let source = "{% set c = cycler('a', 'b') %}{% set j = joiner('|') %}\
                      {% for x in [1, 2, 3] %}{{ j() }}{{ c.next() }}{% endfor %} {{ 'one, two-three'|wordcount }}";
        assert_eq!(environment.render_str(source, ()).unwrap(), "a|b|a 3");
    }

    #[test]
    fn the_clock_stands_still() {
        assert_eq!(strftime("%d %b %Y").unwrap(), "26 Jul 2024");
        assert_eq!(strftime("%d %B %Y, %A 100%%").unwrap(), "26 July 2024, Friday 100%");
        assert_eq!(strftime("%F %H:%M:%-S").unwrap(), "2024-07-26 00:00:0");
        assert!(strftime("%Q").unwrap_err().to_string().contains("`%Q`"));
    }

    #[test]
    fn generation_tags_keep_their_blanks() {
        assert_eq!(
            without_generation_tags("a {%- generation -%} b {% endgeneration %} {{ generation }} {% if x %}"),
            "a {%- if true -%} b {% endif %} {{ generation }} {% if x %}"
        );
        assert_eq!(without_generation_tags("{% open"), "{% open");
    }
}
