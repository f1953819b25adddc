//! A process of dlm that must not outlive the one that started it.

/// Asks the system to end this process when the one that started it is gone, however it went.
///
/// Called first of all, from the first thread. Where the system has no such wish, the process looks by itself.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    let is_asked = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_ok();
    #[cfg(not(target_os = "linux"))]
    let is_asked = false;
    if !is_asked {
        look_by_itself();
    }
}

/// Ends the process soon after its parent's number has changed.
#[cfg(unix)]
fn look_by_itself() {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(200);
    let parent = rustix::process::getppid();
    let look = move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(LOOK);
        }
        let _sent = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    };
    // Without a thread to spare, the limits of time that such a process has end it.
    let _thread = std::thread::Builder::new().name("parent".into()).spawn(look);
}

/// Nothing tells here; the limits of time that such a process has end it.
#[cfg(not(unix))]
fn look_by_itself() {}
