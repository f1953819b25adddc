//! What a call takes off its allowance.

use dlm_core::Cancel;
use dlm_core::ports::model::{
    ModelAllowance, ModelError, ModelFinish, ModelPrompt, ModelWeights, NextRequest, RankRequest,
};

use crate::world::{World, generate, open, refused, sampling, score};

#[test]
fn every_token_that_is_read_or_written_is_counted_and_the_last_one_ends_the_work() {
    let world = World::new();
    let models = world.models(None);
    let model = open(&models, "hf:org/name");
    let cancel = Cancel::new();
    let counted = |work: &dyn Fn(&ModelAllowance) -> u64| {
        let allowed = ModelAllowance::new(10_000, cancel.clone());
        let expected = work(&allowed);
        assert_eq!(allowed.taken(), expected);
        expected
    };
    let length = |text: &str| model.tokenize(text).unwrap().len() as u64;
    let raw = |text: &str| ModelPrompt::Raw(text.to_owned());
    let long = "the lamp of the keeper ".repeat(20);
    let scored = counted(&|allowed| {
        let asked = [
            score(raw(&long), "Odd.", ModelWeights::Base),
            score(raw(&long), "No", ModelWeights::Base),
        ];
        model.score(&asked, allowed).unwrap();
        2 * length(&long) + length("Odd.") + length("No")
    });
    assert!(scored > 100, "prompts are most of it: {scored}");
    counted(&|allowed| {
        let asked = NextRequest {
            prompt: raw(&long),
            weights: ModelWeights::Base,
            top: 3,
        };
        model.next(&[asked], allowed).unwrap();
        length(&long)
    });
    let request = generate(raw(&long), ModelWeights::Base, sampling(1.2, Some(1)));
    let written = counted(&|allowed| {
        let made = model.generate(std::slice::from_ref(&request), allowed).unwrap();
        // A token that ends the answer is chosen, too.
        let ended = u64::from(made[0].finish == ModelFinish::Stop);
        length(&long) + u64::from(made[0].completion_tokens) + ended
    });
    // One token less than the answer takes: it does not end by itself.
    let little = ModelAllowance::new(written - 1, cancel.clone());
    assert_eq!(refused(model.generate(&[request], &little)), ModelError::Tokens);
    assert_eq!(little.taken(), written - 1);
    // A prompt that is too long for it is not read at all.
    let little = ModelAllowance::new(10, cancel.clone());
    let asked = [score(raw(&long), "Odd.", ModelWeights::Base)];
    assert_eq!(refused(model.score(&asked, &little)), ModelError::Tokens);
    let reward = open(&models, "hf:org/reward");
    let asked = [RankRequest {
        prompt: raw("Who?"),
        completion: "The river.".to_owned(),
    }];
    let allowed = ModelAllowance::new(10_000, cancel.clone());
    reward.rank(&asked, &allowed).unwrap();
    assert!(
        allowed.taken() >= length("Who?") + length("The river."),
        "{}",
        allowed.taken()
    );
    assert_eq!(
        refused(reward.rank(&asked, &ModelAllowance::new(2, cancel.clone()))),
        ModelError::Tokens
    );
}
