//! A target that does what a test tells it: one deed a run, named by the argument of `open`, in the form
//! `<phase> <deed> [<detail>]`; the same guest with the deed `nothing` is the well-behaved twin.

use dlm_plugin::http::Request;
use dlm_plugin::process::{Argument, Command};
use dlm_plugin::target::{Endpoint, Info, Launch, Plan, Prepared, Registration, SmokePlan, SmokeReport, Target};
use dlm_plugin::{Error, artifacts, log, output, process, progress, run, secrets};
use std::hint::black_box;

struct TestTarget {
    told: String,
}

impl Target for TestTarget {
    fn open(argument: &str) -> Result<Self, Error> {
        act(argument, "open")?;
        Ok(TestTarget {
            told: argument.to_owned(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("test-target", "escape \u{1b}[31m"),
            accepts: vec![artifacts::Kind::Gguf],
            platforms: Vec::new(),
            programs: vec!["server".to_owned()],
        }
    }

    fn prepare(&mut self, _plan: &Plan) -> Result<Prepared, Error> {
        output::write("note.txt", b"written by prepare", false)?;
        let told = self.told.as_str();
        act(told, "prepare")?;
        let launch = Launch {
            program: if told == "prepare launch-other" { "sh" } else { "server" }.to_owned(),
            arguments: vec![Argument::Text("--port".to_owned()), Argument::Text("{port}".to_owned())],
            env: Vec::new(),
            ready_path: "/ready".to_owned(),
            ready_timeout_ms: 1_000,
        };
        let is_served = told.contains("launch") || told.starts_with("smoke server-");
        Ok(Prepared {
            files: vec![
                if told == "prepare unwritten" {
                    "absent.txt"
                } else {
                    "note.txt"
                }
                .to_owned(),
            ],
            entry: None,
            launch: is_served.then_some(launch),
            smoke: match told {
                "smoke server-chat" => SmokePlan::OpenaiChat,
                _ if is_served => SmokePlan::Custom,
                _ => SmokePlan::NoServer,
            },
            install_preview: Vec::new(),
            usage: Vec::new(),
        })
    }

    fn install(&mut self, _plan: &Plan) -> Result<Option<Registration>, Error> {
        act(&self.told, "install")?;
        Ok(None)
    }

    fn smoke(&mut self, _plan: &Plan, endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        act(&self.told, "smoke")?;
        if let Some(endpoint) = endpoint {
            let status = get(&format!("{}/answer", endpoint.url))?;
            return Ok(SmokeReport {
                ok: status == 200,
                detail: format!("status {status}"),
            });
        }
        Ok(SmokeReport {
            ok: true,
            detail: "nothing to serve".to_owned(),
        })
    }
}

fn act(told: &str, phase: &str) -> Result<(), Error> {
    let mut words = told.splitn(3, ' ');
    if words.next() != Some(phase) {
        return Ok(());
    }
    let (deed, detail) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match deed {
        "loop" => loop {
            black_box(0);
        },
        "loop-host" => loop {
            log::enabled(log::Level::Error);
        },
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(black_box(vec![1; 1 << 20]));
            }
        }
        "recursion" => {
            black_box(deep(1));
            Ok(())
        }
        "panic" => panic!("told to: {detail}"),
        "handles" => {
            let bars: Vec<progress::Bar> = (0..100_000).map(|_| progress::Bar::new("bar", None)).collect();
            black_box(bars);
            Ok(())
        }
        "write" => output::write(detail, b"x", false),
        "write-much" => (0..1000).try_for_each(|n| output::write(&format!("f{n}"), &vec![0; 1 << 20], false)),
        "log" => {
            for _ in 0..20_000 {
                log::write(log::Level::Warn, detail, &[]);
            }
            Ok(())
        }
        "transfer" => output::write("big", &vec![0; 100 << 20], false),
        "exec" => {
            let mut arguments = detail.split(' ').map(|word| Argument::Text(word.to_owned()));
            let Some(Argument::Text(program)) = arguments.next() else {
                return Err(Error::InvalidInput("no program".to_owned()));
            };
            let finished = process::run(&Command {
                program,
                arguments: arguments.collect(),
                env: Vec::new(),
                secret_env: Vec::new(),
                stdin: Vec::new(),
                timeout_ms: None,
            })?;
            log::write(log::Level::Warn, &format!("status {}", finished.status), &[]);
            Ok(())
        }
        "http" => get(detail).map(|status| log::write(log::Level::Warn, &format!("status {status}"), &[])),
        "http-many" => (0..10_000).try_for_each(|_| get(detail).map(drop)),
        "secret" => secrets::get(detail).map(drop),
        "fail" => Err(Error::Failed(format!("\u{1b}]0;title\u{7}{detail}"))),
        "seed" => {
            log::write(log::Level::Warn, &format!("seed {}", run::get().seed), &[]);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn deep(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    if depth == 0 { 0 } else { deep(depth + 1) + room[0] }
}

fn get(url: &str) -> Result<u16, Error> {
    Ok(Request::get(url).send()?.status)
}

dlm_plugin::export_target!(TestTarget);
