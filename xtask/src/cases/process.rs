//! A script that runs within limits of time and memory.
//!
//! Memory is what the processes of the script's group hold together, looked up every tenth of a second; where there is no `/proc`,
//! it is not known and not limited.

use std::io::{PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Between two looks at a running script.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of a page in `/proc`; x86-64 and most of the rest have this one.
const PAGE_BYTES: u64 = 4096;
/// Output that is kept.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// How long the output is waited for after the script's group has ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much a script may take.
pub(super) struct Limits {
    pub seconds: u64,
    pub memory_bytes: u64,
}

/// How a script ended.
pub(super) struct Outcome {
    /// The exit code, 128 and the signal's number where one ended it.
    pub code: i32,
    /// Both streams in the order of their writing.
    pub output: Vec<u8>,
    pub seconds: f64,
    pub memory_bytes: u64,
    /// The limit that ended it.
    pub stopped_by: Option<String>,
}

/// Runs a command, both of whose streams go into one pipe.
pub(super) fn run(command: &dyn Fn() -> Command, limits: &Limits) -> Result<Outcome> {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let started = Instant::now();
    let mut child = {
        let mut command = command();
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("making a pipe")?)
            .stderr(writer)
            .process_group(0);
        command.spawn().context("starting bash")?
    };
    let collected = collect(reader);
    let mut memory_bytes = 0;
    let mut stopped_by = None;
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for the script")? {
            break status;
        }
        memory_bytes = memory_bytes.max(group_bytes(child.id()));
        stopped_by = passed(limits, started.elapsed(), memory_bytes);
        if stopped_by.is_some() {
            end_group(&child);
            break child.wait().context("waiting for the script")?;
        }
        std::thread::sleep(LOOK);
    };
    // Whatever the script left running holds the pipe open.
    end_group(&child);
    let output = collected.finish();
    Ok(Outcome {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        output,
        seconds: started.elapsed().as_secs_f64(),
        memory_bytes,
        stopped_by,
    })
}

/// The output as far as it was read.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_over: Receiver<()>,
}

/// Reads a pipe to its end on a thread of its own.
fn collect(mut reader: PipeReader) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (over, is_over) = channel();
    let kept = bytes.clone();
    std::thread::spawn(move || {
        let mut chunk = [0; 64 << 10];
        while let Ok(read @ 1..) = reader.read(&mut chunk) {
            let mut kept = kept.lock().expect("the reader does not panic");
            // What is over the limit is read and dropped, so that the script does not wait for us.
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..read.min(room)]);
        }
        drop(over);
    });
    Collected { bytes, is_over }
}

impl Collected {
    /// Waits for the end, not for ever: a process that left the group may hold the pipe open.
    fn finish(self) -> Vec<u8> {
        let _closed = self.is_over.recv_timeout(PATIENCE);
        std::mem::take(&mut *self.bytes.lock().expect("the reader does not panic"))
    }
}

fn passed(limits: &Limits, elapsed: Duration, memory_bytes: u64) -> Option<String> {
    if elapsed.as_secs() >= limits.seconds {
        return Some(format!("it ran longer than {} s", limits.seconds));
    }
    let is_over = memory_bytes > limits.memory_bytes;
    is_over.then(|| format!("it held more than {} MiB", limits.memory_bytes >> 20))
}

fn end_group(child: &Child) {
    // A group that is gone already is what is wanted.
    let _gone = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
}

/// Bytes in memory of all processes of a group.
fn group_bytes(group: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let stats = entries.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        std::fs::read_to_string(entry.path().join("stat")).ok()
    });
    stats.filter_map(|stat| resident_bytes(&stat, group)).sum()
}

/// Bytes in memory that a line of `/proc/PID/stat` tells, if its process is of the group.
fn resident_bytes(stat: &str, group: u32) -> Option<u64> {
    // The name in parentheses may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let is_ours = fields.get(2)?.parse() == Ok(group);
    let pages: u64 = fields.get(21)?.parse().ok()?;
    is_ours.then_some(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(script: &'static str, limits: &Limits) -> Outcome {
        let command = || {
            let mut command = Command::new("bash");
            command.args(["-c", script]);
            command
        };
        run(&command, limits).unwrap()
    }

    const WIDE: Limits = Limits {
        seconds: 60,
        memory_bytes: 1 << 40,
    };

    #[test]
    fn streams_come_in_order_and_signals_have_a_code() {
        let found = bash("echo a; echo b >&2; echo c; exit 3", &WIDE);
        assert_eq!((found.code, found.output.as_slice()), (3, &b"a\nb\nc\n"[..]));
        assert_eq!(bash("kill -SEGV $$", &WIDE).code, 128 + 11);
    }

    #[test]
    fn what_runs_too_long_or_takes_too_much_is_ended_with_its_children() {
        let short = Limits { seconds: 1, ..WIDE };
        let found = bash("sleep 50 & sleep 50", &short);
        assert!(found.stopped_by.unwrap().contains("longer than 1 s"));
        assert!(found.seconds < 20.0);
        let small = Limits {
            memory_bytes: 1,
            ..WIDE
        };
        assert!(bash("sleep 50", &small).stopped_by.unwrap().contains("MiB"));
    }

    #[test]
    fn a_name_with_blanks_does_not_shift_the_fields() {
        let fields = "S 1 77 77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 1000 3 0";
        assert_eq!(resident_bytes(&format!("9 (a ) b) {fields}"), 77), Some(3 * PAGE_BYTES));
        assert_eq!(resident_bytes(&format!("9 (a) {fields}"), 78), None);
    }
}
