//! What the surface promises and this version does not do yet: a flag or command of the reference is declared, shown with
//! its mark, and refused.
//!
//! Invariant: a flag never does nothing. The one mark is the type of the field, [`NotBuilt`]; nothing lists such flags a
//! second time.

use std::any::TypeId;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Subcommand};
use dlm_core::Subject;
use dlm_flow::Failure;

/// Sets the flags apart in the help.
pub const HEADING: &str = "Not built yet (refused)";

/// The value of a flag that is not built: nothing is ever done with it.
#[derive(Clone, Copy, Debug)]
pub struct NotBuilt;

/// Reads a value as `parser` does, so that a mistake in it is told as it will be once the flag is built.
pub fn not_built<P: TypedValueParser>(parser: P) -> impl TypedValueParser<Value = NotBuilt> {
    parser.map(|_| NotBuilt)
}

/// The commands of the reference surface that are not built.
#[derive(Debug, Subcommand)]
pub enum NotBuiltCommand {
    /// Talk with the trained model, turn by turn (not built yet)
    Repl(Rest),
    /// Turn failed probes into training pairs (not built yet)
    Harvest(Rest),
    /// Bundle a document and its model into a pack (not built yet)
    Pack(Rest),
    /// Install a pack (not built yet)
    Unpack(Rest),
    /// Verify a pack's provenance (not built yet)
    Verify(Rest),
    /// Upload a document or pack (not built yet)
    Push(Rest),
    /// Download and install a pack (not built yet)
    Pull(Rest),
    /// Serve a pack on the local network (not built yet)
    Serve(Rest),
}

/// Whatever is typed after such a command.
#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true, value_parser = not_built(StringValueParser::new()))]
    pub rest: Vec<NotBuilt>,
}

/// Refuses the command that was typed, or the first of its flags, where it is not built.
///
/// **Errors** name it; exit 2.
pub fn refuse(definition: &Command, matches: &ArgMatches) -> Result<(), Failure> {
    let (mut command, mut matches, mut words) = (definition, matches, "dlm".to_owned());
    while let Some((name, inner)) = matches.subcommand() {
        command = command.find_subcommand(name).expect("clap parsed it");
        matches = inner;
        words = format!("{words} {name}");
    }
    if is_command_marked(command) {
        return Err(refusal(&words, "dlm"));
    }
    let is_given = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    match command.get_arguments().filter(|arg| is_marked(arg)).find(is_given) {
        Some(arg) => Err(refusal(
            &format!("{words} --{}", arg.get_long().unwrap_or_default()),
            &words,
        )),
        None => Ok(()),
    }
}

/// The help of a command that is not built, where its words ask for it.
pub fn help(definition: &mut Command, matches: &ArgMatches) -> Option<clap::Error> {
    let (mut command, mut inner) = (definition, matches);
    while let Some((name, next)) = inner.subcommand() {
        command = command.find_subcommand_mut(name)?;
        inner = next;
    }
    if !is_command_marked(command) {
        return None;
    }
    let words = inner.get_raw("rest").into_iter().flatten();
    let mut words = words.take_while(|word| *word != "--");
    let is_asked = words.any(|word| word == "-h" || word == "--help");
    is_asked.then(|| clap::Error::raw(ErrorKind::DisplayHelp, command.render_help()))
}

/// `command` is the one whose help marks `what` among that which works.
fn refusal(what: &str, command: &str) -> Failure {
    Failure::misuse(Subject::Error, format!("`{what}` is not built yet in this version")).hint(format!(
        "`{command} --help` shows what works and marks what is not built yet"
    ))
}

/// Whether a flag is not built.
pub fn is_marked(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<NotBuilt>()
}

/// Whether a command is not built.
pub fn is_command_marked(command: &Command) -> bool {
    command.get_positionals().any(is_marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the help of a command or of a flag among built ones ends.
    const MARK: &str = "(not built yet)";

    fn check(command: &Command) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            is_command_marked(command),
            about.ends_with(MARK),
            "{}",
            command.get_name()
        );
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let is_shown = arg.get_help_heading() == Some(HEADING) || help.ends_with(MARK);
            assert_eq!(is_marked(arg), is_shown, "{} {}", command.get_name(), arg.get_id());
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn the_help_says_what_is_refused_and_nothing_else() {
        check(&crate::definition());
    }
}
