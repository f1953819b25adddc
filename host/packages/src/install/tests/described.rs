//! What is told of a plugin without running it.

use super::*;

#[test]
fn a_request_is_shown_as_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    for (capability, part) in [
        (
            "secret:OPENAI_API_KEY@\u{430}pi.openai.com",
            "must be written `secret:OPENAI_API_KEY@xn--pi-6kc.openai.com`",
        ),
        (
            "http:https://\u{430}pi.openai.com",
            "must be written `http:https://xn--pi-6kc.openai.com`",
        ),
        ("http:http://0x7f.1/", "must be written `http:http://127.0.0.1`"),
        (
            "http:https://API.example.com",
            "must be written `http:https://api.example.com`",
        ),
        ("exec:git stat\u{430}s", "letters outside ASCII"),
        ("limit:color=1", "memory"),
    ] {
        let bytes = judge("rubric", "1.0.0", &[(capability, false)]);
        refused(
            offer(home.path(), fetched(bytes, false), Policy::default(), &flags(&[])).map(|_| ()),
            "plugin::invalid-input",
            part,
        );
    }
    let bytes = judge("rubric", "1.0.0", &[("http:https://xn--pi-6kc.openai.com", false)]);
    assert!(offer(home.path(), fetched(bytes, false), Policy::default(), &flags(&[])).is_ok());
}

#[test]
fn inspect_and_list_read_without_running() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[MODEL, ("exec:git **", true)]);
    let file = home.path().join("rubric.wasm");
    fs::write(&file, &bytes).unwrap();
    let typed = file.to_str().unwrap();
    let (seen, _) = inspect(&finder(home.path()), typed).unwrap();
    assert_eq!((seen.name.as_str(), seen.wasi, seen.origin), ("rubric", "none", "path"));
    assert_eq!((seen.signature.as_str(), seen.problem), ("none", None));
    assert_eq!(seen.imports.len(), 3);
    let risks = seen.risks.join("\n");
    for part in [
        "any arguments: exec:git **",
        "not signed",
        "imports dlm:plugin/http@1.0.0 and requests no http:",
    ] {
        assert!(risks.contains(part), "{part} in {risks}");
    }
    assert!(wit(&file, &bytes).unwrap().contains("export dlm:plugin/judge@1.0.0"));

    let allow = InstallFlags {
        is_allowing_unsigned: true,
        ..flags(&["model:current"])
    };
    let fetched = from_file(&file).unwrap();
    let offered = offer(home.path(), fetched, Policy::default(), &allow).unwrap();
    install(home.path(), &offered, &decide(&offered, &allow, None).unwrap(), NOW).unwrap();
    let (seen, _) = inspect(&finder(home.path()), "rubric").unwrap();
    assert_eq!(
        seen.lock.unwrap().source,
        file.canonicalize().unwrap().to_string_lossy()
    );
    assert_eq!(seen.granted, ["model:current"]);
    let (builtin, _) = inspect(&finder(home.path()), "ollama").unwrap();
    assert_eq!(
        (builtin.origin, builtin.signature.as_str(), builtin.problem),
        ("built in", "part of dlm", None)
    );
    assert!(
        builtin
            .imports
            .iter()
            .any(|item| item.functions.contains(&"write".to_owned()))
    );

    let listed = list(&finder(home.path())).unwrap();
    let row = listed.iter().find(|row| row.name == "rubric").unwrap();
    assert_eq!(
        (row.version.as_str(), row.wasi, row.api.as_deref()),
        ("1.2.0", Some("none"), Some("1.0.0"))
    );
    assert!(
        listed
            .iter()
            .any(|row| row.name == "ollama" && row.origin == "built in")
    );
    fs::write(home.path().join("plugins/rubric/1.2.0/plugin.wasm"), b"changed").unwrap();
    let listed = list(&finder(home.path())).unwrap();
    let row = listed.iter().find(|row| row.name == "rubric").unwrap();
    assert_eq!(row.problem.as_ref().unwrap().0, "plugin::tampered");
    assert_eq!(
        verify(home.path()).unwrap()[0].problem.as_ref().unwrap().0,
        "plugin::tampered"
    );
}
