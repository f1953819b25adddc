//! `cargo xtask kills [--rounds N] [--seed S] [--binary PATH] [--only TEXT] [--keep]`: every command that writes, killed with SIGKILL
//! at a random moment, and what is then left.
//!
//! Each round copies a scene (a home, a document, whatever the command needs), starts the command, kills it, and asks: do
//! store, document, export, bases and plugins open; does the same command work next; is anything left that whole runs do not
//! leave. Moments are spread over the time that the command takes when nobody kills it; a seed gives the same moments.
//!
//! Invariants: nothing outside the target directory is written; scenes run one after the other, none beside another.

mod check;
mod scene;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::check::Golden;
use self::scene::{SCENES, Scene, Stage};
use crate::{program, repository};

/// Rounds without `--rounds`.
const ROUNDS: usize = 500;
/// Kills come up to this share of the measured time: the last ones meet a command that has just ended.
const OVER: f64 = 1.02;
/// Between two looks at a command that may end before its moment.
const LOOK: Duration = Duration::from_micros(500);

/// What was asked for.
struct Request {
    rounds: usize,
    seed: u64,
    binary: Option<PathBuf>,
    only: Option<String>,
    /// Leaves the stages of rounds with flaws behind.
    keeps: bool,
}

/// The figures of one scene.
#[derive(Default)]
struct Figures {
    rounds: usize,
    /// Rounds in which the command still ran at its moment.
    killed: usize,
    flawed: usize,
    /// Each flaw with how often it was found.
    flaws: std::collections::BTreeMap<String, usize>,
}

/// Kills, and prints the figures of each command.
pub fn run(arguments: &[String]) -> Result<()> {
    let request = request(arguments)?;
    let binary = match &request.binary {
        Some(path) => std::path::absolute(path).context("finding the program")?,
        None => built()?,
    };
    ensure!(binary.is_file(), "{} is not a program", binary.display());
    let root = program::target_directory().join("kills");
    tree::clear(&root)?;
    // A name of its own, by which processes that outlive their parent are found.
    let own = root.join("bin/dlm");
    tree::copy_file(&binary, &own)?;
    let wanted: Vec<&Scene> = SCENES
        .iter()
        .filter(|scene| {
            request
                .only
                .as_ref()
                .is_none_or(|text| scene.name.contains(text.as_str()))
        })
        .collect();
    ensure!(!wanted.is_empty(), "there is no such scene");
    println!(
        "{} rounds over {} commands, seed {}",
        request.rounds,
        wanted.len(),
        request.seed
    );
    let mut flawed = 0;
    let mut killed = 0;
    for (index, scene) in wanted.iter().enumerate() {
        let rounds = request.rounds / wanted.len() + usize::from(index < request.rounds % wanted.len());
        let mut random = Random(request.seed ^ seed_of(scene.name));
        let figures = run_scene(scene, &own, &root.join(scene.name), rounds, &mut random, request.keeps)
            .with_context(|| scene.name.to_owned())?;
        flawed += figures.flawed;
        killed += figures.killed;
    }
    println!(
        "{} rounds, {killed} killed while the command ran, {flawed} with flaws",
        request.rounds
    );
    ensure!(flawed == 0, "{flawed} rounds left something wrong");
    Ok(())
}

fn run_scene(
    scene: &Scene,
    binary: &Path,
    root: &Path,
    rounds: usize,
    random: &mut Random,
    keeps: bool,
) -> Result<Figures> {
    let before = Stage::new(binary, &root.join("before"));
    before.prepare(scene)?;
    let golden = Golden::make(scene, &before, root)?;
    let mut figures = Figures::default();
    // A machine that others use is not equally fast all the time.
    let mut duration = golden.duration;
    for round in 0..rounds {
        let stage = before.copy(&root.join(format!("round-{round}")))?;
        let moment = duration.mul_f64(random.share() * OVER);
        let (killed, mut flaws) = kill_at(scene, &stage, moment)?;
        if let Moment::Over(time) = killed {
            duration = time;
        }
        let is_killed = matches!(killed, Moment::Killed);
        flaws.extend(golden.flaws(scene, &stage)?);
        figures.rounds += 1;
        figures.killed += usize::from(is_killed);
        if !flaws.is_empty() {
            figures.flawed += 1;
            let place = if keeps {
                format!(" ({})", stage.root.display())
            } else {
                String::new()
            };
            println!(
                "  {} round {round}, killed after {:.0} ms{place}:",
                scene.name,
                moment.as_secs_f64() * 1e3
            );
            for flaw in flaws {
                println!("      {flaw}");
                *figures.flaws.entry(flaw).or_default() += 1;
            }
        }
        if figures.flawed == 0 || !keeps {
            tree::clear(&stage.root)?;
        }
    }
    println!(
        "{:<6} {:<22} {:>3} rounds, {:>3} killed, {:>3} with flaws; {:.0} ms",
        if figures.flawed == 0 { "holds" } else { "FAILS" },
        scene.name,
        figures.rounds,
        figures.killed,
        figures.flawed,
        duration.as_secs_f64() * 1e3
    );
    Ok(figures)
}

/// What the command did at its moment.
enum Moment {
    Killed,
    /// It had ended, after this time.
    Over(Duration),
}

/// Starts the command and kills it at its moment; says whether it still ran, and what outlived it.
fn kill_at(scene: &Scene, stage: &Stage, moment: Duration) -> Result<(Moment, Vec<String>)> {
    let started = Instant::now();
    let mut child: Child = stage.command(scene.command).spawn().context("starting dlm")?;
    while started.elapsed() < moment {
        if child.try_wait().context("waiting for dlm")?.is_some() {
            return Ok((Moment::Over(started.elapsed()), check::left_running(stage)));
        }
        std::thread::sleep(LOOK.min(moment.saturating_sub(started.elapsed())));
    }
    // One that ended meanwhile is gone already.
    let _gone = child.kill();
    let ended = child.wait().context("waiting for dlm")?;
    let is_killed = ended.code().is_none();
    let found = if is_killed {
        Moment::Killed
    } else {
        Moment::Over(started.elapsed())
    };
    Ok((found, check::left_running(stage)))
}

fn request(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        rounds: ROUNDS,
        seed: 1,
        binary: None,
        only: None,
        keeps: false,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--rounds" => request.rounds = value()?.parse().context("`--rounds` is a number")?,
            "--seed" => request.seed = value()?.parse().context("`--seed` is a number")?,
            "--binary" => request.binary = Some(PathBuf::from(value()?)),
            "--only" => request.only = Some(value()?.clone()),
            "--keep" => request.keeps = true,
            other => {
                bail!("there is no option `{other}`: [--rounds N] [--seed S] [--binary PATH] [--only TEXT] [--keep]")
            }
        }
    }
    Ok(request)
}

/// Builds the program as the tests do, so that nothing is compiled a second time.
fn built() -> Result<PathBuf> {
    let status = std::process::Command::new("cargo")
        .args(["build", "--workspace", "--bins"])
        .current_dir(repository::root())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(program::target_directory().join("debug/dlm"))
}

/// SplitMix64 (Steele, Lea and Flood 2014): moments need no better.
struct Random(u64);

impl Random {
    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number for a name, so that a scene's moments do not depend on those before it.
fn seed_of(name: &str) -> u64 {
    let digest = repository::sha256(name.as_bytes());
    u64::from_str_radix(&digest[..16], 16).expect("a digest is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_moments_spread_over_the_time() {
        let shares = |seed| {
            let mut random = Random(seed);
            (0..1000).map(|_| random.share()).collect::<Vec<_>>()
        };
        let found = shares(7);
        assert_eq!(found, shares(7));
        assert_ne!(found, shares(8));
        for tenth in 0..10 {
            let is_in = |share: &&f64| (**share * 10.0) as usize == tenth;
            assert!(found.iter().filter(is_in).count() > 50, "tenth {tenth}");
        }
    }

    #[test]
    fn names_of_scenes_differ() {
        let names: std::collections::BTreeSet<_> = SCENES.iter().map(|scene| scene.name).collect();
        assert_eq!(names.len(), SCENES.len());
    }
}
