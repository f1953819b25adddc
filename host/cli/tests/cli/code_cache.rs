//! Compiled plugins on disk: loaded when they are what dlm wrote, compiled anew when anybody changed them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use crate::lab::Lab;

/// The one piece of compiled code below the home.
fn code(lab: &Lab) -> PathBuf {
    let directories = fs::read_dir(lab.path("home/cache/plugins")).unwrap();
    let directory = directories.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn replace(path: &std::path::Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn code_is_kept_for_this_user_alone_and_used_again() {
    let lab = Lab::new();
    lab.run(&["templates", "list"]).exits(0);
    let path = code(&lab);
    let first = fs::metadata(&path).unwrap();
    assert_eq!(first.mode() & 0o777, 0o400);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    lab.run(&["templates", "list"]).exits(0);
    assert_eq!(
        fs::metadata(code(&lab)).unwrap().ino(),
        first.ino(),
        "it was compiled again"
    );
}

#[test]
fn changed_code_is_compiled_anew_and_never_run() {
    let lab = Lab::new();
    lab.run(&["templates", "list"]).exits(0);
    let path = code(&lab);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    let elsewhere = lab.path("elsewhere.cwasm");
    fs::write(&elsewhere, &good).unwrap();
    let changes: [(&str, &dyn Fn()); 5] = [
        ("other bytes", &|| replace(&path, &flipped)),
        ("cut", &|| replace(&path, &good[..middle])),
        ("empty", &|| replace(&path, b"")),
        ("a link to a copy outside", &|| {
            fs::remove_file(&path).unwrap();
            symlink(&elsewhere, &path).unwrap();
        }),
        ("writable by others", &|| {
            replace(&path, &flipped);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, change) in changes {
        change();
        lab.run(&["templates", "list"]).exits(0);
        assert_eq!(fs::read(code(&lab)).unwrap(), good, "{what}");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink(), "{what}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o400, "{what}");
    }
    assert_eq!(
        fs::read(&elsewhere).unwrap(),
        good,
        "what the link pointed to was touched"
    );
}

#[test]
fn a_cache_that_others_can_write_is_not_used() {
    let lab = Lab::new();
    lab.run(&["templates", "list"]).exits(0);
    let directory = code(&lab).parent().unwrap().to_owned();
    fs::remove_file(code(&lab)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    lab.run(&["templates", "list"]).exits(0);
    let kept = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(
        kept.filter(|path| path.extension().is_some_and(|e| e == "cwasm"))
            .count(),
        0
    );
}

#[test]
fn many_processes_at_once_compile_once_and_leave_nothing_else() {
    let lab = Lab::new();
    for count in [2, 6, 20] {
        let _first = fs::remove_dir_all(lab.path("home/cache"));
        let children: Vec<_> = (0..count)
            .map(|_| {
                let mut command = lab.command();
                command.args(["templates", "list"]).stdout(std::process::Stdio::piped());
                command.stderr(std::process::Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(ended.status.success(), "{count}: {said}");
        }
        let directory = code(&lab).parent().unwrap().to_owned();
        let mut left: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.retain(|name| !name.ends_with(".cwasm") && !name.ends_with(".json"));
        assert_eq!(left, Vec::<String>::new(), "{count}");
    }
}

/// The compiler's own limit is above it, and a guest's memory could not reserve what it might address.
#[test]
fn plugins_run_under_a_limit_of_the_address_space() {
    let lab = Lab::new();
    let command = lab.command();
    let program = command.get_program().to_owned();
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "ulimit -v 3000000 && exec \"$0\" templates list"])
        .arg(program);
    shell.current_dir(lab.path("")).env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    let ran = lab.finish(&mut shell).ok();
    assert_eq!(ran.out, lab.run(&["templates", "list"]).ok().out);
}
