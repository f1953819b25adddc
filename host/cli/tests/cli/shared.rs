//! What several processes use at once, and what killed ones leave.

use std::process::Stdio;

use crate::lab::{Guarded, ID, Lab, interrupt, tiny_base};

fn names(lab: &Lab, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(lab.path(directory)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn of_many_that_add_one_base_one_does() {
    for count in [2, 6, 20] {
        let lab = Lab::new();
        lab.tiny_model();
        let children: Vec<_> = (0..count)
            .map(|_| {
                let mut command = lab.command();
                command.args(["base", "add", "tiny", "--from", "model"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut added = 0;
        for child in children {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            match ended.status.code() {
                Some(0) => added += 1,
                Some(1) => assert!(said.contains("base `tiny` exists already"), "{count}: {said}"),
                other => panic!("{count}: {other:?}: {said}"),
            }
        }
        assert_eq!(added, 1, "{count}");
        assert_eq!(names(&lab, "home/bases"), ["tiny"], "{count}");
        let detail = lab.json(&["base", "show", "tiny", "--json"]);
        assert_eq!(detail["is_here"], true);
    }
}

#[test]
fn of_many_that_train_on_one_base_one_asks_it_what_to_hold_on_to() {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let children: Vec<_> = (0..4)
        .map(|number| {
            let name = format!("{number}.dlm");
            // The last digit of the document's id.
            lab.write(&name, text.replace(ID, &format!("{}{number}", &ID[..ID.len() - 1])));
            let mut command = lab.command();
            command.args(["train", &name, "--max-steps", "1"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut asked = 0;
    for child in children {
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{said}");
        asked += said.matches("the base is asked what to hold on to").count();
    }
    assert_eq!(asked, 1);
    assert!(
        names(&lab, "home/bases/.hold")
            .iter()
            .all(|name| name.ends_with(".anchors"))
    );
}

#[test]
fn a_copy_that_shares_a_store_is_told_and_a_moved_document_is_not() {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    std::fs::copy(lab.path("a.dlm"), lab.path("b.dlm")).unwrap();
    let said = "a.dlm` has the same dlm_id";
    lab.run(&["train", "b.dlm", "--max-steps", "1", "--fresh"])
        .ok()
        .says(&[said]);
    std::fs::remove_file(lab.path("b.dlm")).unwrap();
    std::fs::rename(lab.path("a.dlm"), lab.path("c.dlm")).unwrap();
    let ran = lab.run(&["train", "c.dlm", "--max-steps", "1", "--fresh"]).ok();
    assert!(!ran.err.contains("same dlm_id"), "{}", ran.err);
}

#[test]
fn what_a_killed_addition_left_is_gone_after_the_next() {
    let lab = Lab::new();
    lab.tiny_model();
    std::fs::create_dir_all(lab.path("home/bases/.big.new")).unwrap();
    lab.write("home/bases/.big.new/model.gguf", "half");
    lab.write("home/bases/.big.new.lock", "");
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    assert_eq!(names(&lab, "home/bases"), ["tiny"]);
}

#[test]
fn a_model_that_cannot_be_used_is_refused_before_it_is_copied() {
    let lab = Lab::new();
    lab.tiny_model();
    let config = lab.read("model/config.json");
    let template = |content: &str| {
        format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{content}<|im_end|>\n{{% endfor %}}\
             {{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        )
    };
    lab.write("model/chat_template.jinja", template("{{ m.content }}"));
    let drops = template("{% for part in m.content %}{{ part.text }}{% endfor %}");
    let changes: [(&str, String, &str); 3] = [
        (
            "model/chat_template.jinja",
            drops,
            "drops or changes the text of a plain question",
        ),
        (
            "model/config.json",
            config.replace("LlamaForCausalLM", "MambaForCausalLM"),
            "choose a base of the families",
        ),
        ("model/tokenizer.json", "{}".to_owned(), "tokenizer"),
    ];
    for (file, text, said) in changes {
        let good = lab.read(file);
        lab.write(file, text);
        let ran = lab
            .run(&["base", "add", "tiny", "--from", "model"])
            .exits(1)
            .says(&[said]);
        assert!(!ran.err.contains("copying"), "{}", ran.err);
        assert!(!lab.path("home/bases").exists(), "something was made: {}", ran.err);
        lab.write(file, good);
    }
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    // The name is looked at first of all.
    lab.run(&["base", "add", "tiny", "--from", "nowhere"])
        .exits(1)
        .says(&["exists already"]);
    assert!(tiny_base().exists());
}

/// A hub that takes connections and never answers.
#[test]
fn ctrl_c_ends_the_waiting_for_a_hub() {
    let lab = Lab::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut command = lab.command();
    command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", endpoint);
    command.args(["init", "b.dlm", "--base", "hf:org/name"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = Guarded(child);
    let _asked = silent.accept().unwrap();
    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert!(!lab.path("b.dlm").exists());
}

#[test]
fn dlm_offline_keeps_bases_off_the_network_too() {
    let lab = Lab::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    let mut command = lab.command();
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", endpoint)
        .env("DLM_OFFLINE", "1");
    lab.finish(command.args(["init", "b.dlm", "--base", "hf:org/name"]))
        .exits(1)
        .says(&["offline", "unset DLM_OFFLINE"]);
    nobody.set_nonblocking(true).unwrap();
    assert!(nobody.accept().is_err(), "a connection was made");
}

/// A writer that was killed in the middle left its temporary beside the document; the next one takes it away.
#[cfg(unix)]
#[test]
fn nothing_stays_beside_a_document_and_a_link_to_it_stays_one() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    lab.document();
    std::fs::rename(lab.path("a.dlm"), lab.path("real.dlm")).unwrap();
    std::os::unix::fs::symlink("real.dlm", lab.path("a.dlm")).unwrap();
    let old = lab.read("real.dlm").replace("dlm_version: 15\n", "");
    lab.write("real.dlm", &old);
    std::fs::set_permissions(lab.path("real.dlm"), std::fs::Permissions::from_mode(0o640)).unwrap();
    lab.write("real.dlm.tmp.1.0000002a", "half");
    lab.write("other.dlm.tmp.1.0000002a", "somebody else's");
    lab.run(&["migrate", "a.dlm", "--no-backup"]).ok();
    assert_eq!(names(&lab, ""), ["a.dlm", "other.dlm.tmp.1.0000002a", "real.dlm"]);
    assert!(std::fs::symlink_metadata(lab.path("a.dlm")).unwrap().is_symlink());
    let mode = std::fs::metadata(lab.path("real.dlm")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}
