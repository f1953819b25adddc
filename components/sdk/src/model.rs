//! The language model of the run, or another one by name.

pub use crate::bindings::host::dlm::plugin::model::{
    Finish, GenerateRequest, Generation, Handle, Info, Message, NextRequest, Prompt, RankRequest, Role, Sampling,
    Score, ScoreRequest, Token, Weights, current, named,
};

/// A chat of an optional system text and one question.
pub fn chat(system: Option<&str>, user: &str) -> Prompt {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let system = system.filter(|text| !text.trim().is_empty());
    let mut messages: Vec<Message> = system.map(|text| message(Role::System, text)).into_iter().collect();
    messages.push(message(Role::User, user));
    Prompt::Chat(messages)
}

/// The selector that the host knows a typed model by: a name with an owner is one of the hub, any other a registry key.
pub fn selector(model: &str) -> String {
    if model.contains('/') && !model.starts_with("hf:") {
        return format!("hf:{model}");
    }
    model.to_owned()
}

#[cfg(test)]
mod tests {
    use super::selector;

    #[test]
    fn a_name_with_an_owner_is_one_of_the_hub() {
        assert_eq!(selector("org/reward"), "hf:org/reward");
        assert_eq!(selector("hf:org/reward"), "hf:org/reward");
        assert_eq!(selector("smollm2-135m"), "smollm2-135m");
    }
}
