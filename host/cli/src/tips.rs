//! What clap suggests for a mistyped word, without what is not built: a tip that leads to a refusal is no help.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error};

use crate::unbuilt::{is_command_marked, is_marked};

/// Takes suggestions of commands and flags that are not built out of an error about `arguments`.
pub fn drop_unbuilt(error: &mut Error, arguments: &[OsString]) {
    let definition = crate::definition();
    let command = typed(&definition, arguments);
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::SuggestedSubcommand) {
        let built: Vec<String> = names
            .iter()
            .filter(|name| !is_unbuilt_command(command, name))
            .cloned()
            .collect();
        match built.is_empty() {
            true => drop(error.remove(ContextKind::SuggestedSubcommand)),
            false => drop(error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(built))),
        }
    }
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg)
        && is_unbuilt_flag(command, flag)
    {
        error.remove(ContextKind::SuggestedArg);
        // It is made of the suggestion.
        error.remove(ContextKind::Usage);
    }
}

/// The command that the words lead to; options before it are passed over.
fn typed<'a>(definition: &'a Command, arguments: &[OsString]) -> &'a Command {
    let mut at = definition;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        match at.find_subcommand(word) {
            Some(next) => at = next,
            None if at.has_subcommands() => {}
            None => break,
        }
    }
    at
}

fn is_unbuilt_command(command: &Command, name: &str) -> bool {
    command.find_subcommand(name).is_some_and(is_command_marked)
}

fn is_unbuilt_flag(command: &Command, flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    let mut arguments = command.get_arguments();
    arguments.any(|arg| arg.get_long() == Some(name) && is_marked(arg))
}
