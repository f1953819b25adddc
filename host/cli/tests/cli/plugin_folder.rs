//! What lies in the folder of an installed plugin: files that did not come with it, and what killed commands left.

use crate::lab::Lab;
use crate::plugin::pack;

#[test]
fn a_stray_file_in_a_plugins_folder_is_told() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    for stray in [
        "home/plugins/shelf/1.0.0/plugin.toml",
        "home/plugins/shelf/0.9.0/plugin.wasm",
    ] {
        std::fs::create_dir_all(lab.path(stray).parent().unwrap()).unwrap();
        let path = lab.write(stray, "x");
        let verified = lab.run(&["plugin", "verify"]).exits(1);
        assert!(
            verified.out.starts_with("shelf 1.0.0: plugin::stray: "),
            "{}",
            verified.out
        );
        assert!(verified.out.contains("was not installed with it"), "{}", verified.out);
        std::fs::remove_file(&path).unwrap();
        let directory = path.parent().unwrap();
        if !directory.ends_with("1.0.0") {
            std::fs::remove_dir(directory).unwrap();
        }
    }
    lab.run(&["plugin", "verify"]).ok();
}

/// What `cargo xtask kills` found.
#[test]
fn what_killed_commands_left_is_cleared_by_the_next() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    let install = ["plugin", "install", file.to_str().unwrap()];
    lab.run(&install).ok();
    let directory = "home/plugins/shelf/1.0.0";
    // No process has its lock, whatever has that number.
    let temporary = format!("{directory}/plugin.wasm.tmp.1.0000002a");
    lab.write(&temporary, "half");
    lab.run(&["plugin", "verify"]).ok();
    assert!(!lab.path(&temporary).exists());
    lab.write("home/plugins/plugins.lock.tmp.1.0000002a", "half");
    lab.run(&["plugin", "remove", "shelf"]).ok();
    assert!(!lab.path("home/plugins/plugins.lock.tmp.1.0000002a").exists());
    // Killed between the lock and the files.
    std::fs::create_dir_all(lab.path(directory)).unwrap();
    lab.write(&format!("{directory}/plugin.wasm"), "x");
    lab.run(&["plugin", "remove", "shelf"])
        .ok()
        .says(&["what an interrupted removal left"]);
    assert!(!lab.path("home/plugins/shelf").exists());
    lab.run(&["plugin", "remove", "shelf"]).exits(2);
    lab.run(&["plugin", "remove", "../bases"]).exits(2);
}
