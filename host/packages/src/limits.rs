//! The limits of a plugin: the defaults of each kind, what a grant can raise, and the ceilings.

use std::fmt;
use std::time::Duration;

use crate::kind::Kind;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The limits of one plugin instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories together.
    pub memory_bytes: u64,
    /// Time inside the guest during `open`.
    pub open_time: Duration,
    /// Time inside the guest during one other call.
    pub call_time: Duration,
    /// Time of one call, host calls included.
    pub wall_time: Duration,
    /// From guest to host in one call or result.
    pub transfer_bytes: u64,
    /// Log text of the whole run.
    pub log_bytes: u64,
    /// Files that may be written, and their bytes together.
    pub output_files: u64,
    pub output_bytes: u64,
    /// HTTP requests of the whole run.
    pub requests: u64,
    pub response_bytes: u64,
    /// Program runs of the whole run.
    pub process_runs: u64,
    /// Model tokens of the whole run, read and written.
    pub tokens: u64,
}

/// Defaults of the target world, from the table of `plugins.md` section 12.
pub const TARGET_LIMITS: Limits = Limits {
    memory_bytes: 256 * MIB,
    open_time: Duration::from_secs(5),
    call_time: Duration::from_secs(30),
    wall_time: Duration::from_secs(30 * 60),
    transfer_bytes: 64 * MIB,
    log_bytes: MIB,
    output_files: 256,
    output_bytes: 64 * MIB,
    requests: 1_000,
    response_bytes: 16 * MIB,
    process_runs: 32,
    tokens: 0,
};

/// Defaults of a kind, from the same table. A judge may run one program per candidate, since `cli:` does.
pub const fn limits(kind: Kind) -> Limits {
    let base = Limits {
        call_time: Duration::from_secs(10),
        transfer_bytes: 8 * MIB,
        output_files: 0,
        output_bytes: 0,
        ..TARGET_LIMITS
    };
    match kind {
        Kind::Target => TARGET_LIMITS,
        Kind::Judge => Limits {
            wall_time: Duration::from_secs(10 * 60),
            requests: 10_000,
            process_runs: 1_000_000,
            tokens: 20_000_000,
            ..base
        },
        Kind::Teacher => Limits {
            wall_time: Duration::from_secs(5 * 60),
            requests: 100_000,
            process_runs: 0,
            tokens: 20_000_000,
            ..base
        },
        Kind::Destination => Limits {
            memory_bytes: 128 * MIB,
            call_time: Duration::from_secs(30),
            wall_time: Duration::from_secs(6 * 3600),
            process_runs: 0,
            ..base
        },
        Kind::Templates => Limits {
            memory_bytes: 128 * MIB,
            wall_time: Duration::from_secs(2 * 60),
            transfer_bytes: 64 * MIB,
            output_files: 256,
            output_bytes: 16 * MIB,
            response_bytes: 64 * MIB,
            process_runs: 0,
            ..base
        },
    }
}

impl LimitValue {
    /// Says whether it is at least another value of the same limit.
    pub(crate) fn reaches(self, other: LimitValue) -> bool {
        self.unit == other.unit && self.amount >= other.amount
    }
}

/// The limits that a `limit:` grant can raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    Memory,
    Deadline,
    WallTime,
    Transfer,
    Log,
    Output,
    Requests,
    Response,
    Process,
    Tokens,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Seconds,
    Count,
}

/// A value of a limit, in the unit of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitValue {
    amount: u64,
    unit: Unit,
}

impl LimitName {
    /// Every limit, in the order of the book.
    pub const ALL: [LimitName; 10] = [
        LimitName::Memory,
        LimitName::Deadline,
        LimitName::WallTime,
        LimitName::Transfer,
        LimitName::Log,
        LimitName::Output,
        LimitName::Requests,
        LimitName::Response,
        LimitName::Process,
        LimitName::Tokens,
    ];

    /// The limit that a word names.
    pub fn parse(text: &str) -> Option<LimitName> {
        LimitName::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// The end of a message about an unknown name.
    pub fn expected() -> String {
        let names: Vec<&str> = LimitName::ALL.iter().map(|name| name.as_str()).collect();
        format!("names no limit; the limits are {}", names.join(", "))
    }

    /// The name in a grant.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitName::Memory => "memory",
            LimitName::Deadline => "deadline",
            LimitName::WallTime => "wall-time",
            LimitName::Transfer => "transfer",
            LimitName::Log => "log",
            LimitName::Output => "output",
            LimitName::Requests => "requests",
            LimitName::Response => "response",
            LimitName::Process => "process",
            LimitName::Tokens => "tokens",
        }
    }

    /// The most that a grant can raise it to.
    pub fn ceiling(self) -> LimitValue {
        let (amount, unit) = match self {
            LimitName::Memory => (4 * GIB, Unit::Bytes),
            LimitName::Deadline => (600, Unit::Seconds),
            LimitName::WallTime => (24 * 3600, Unit::Seconds),
            LimitName::Transfer => (256 * MIB, Unit::Bytes),
            LimitName::Log => (64 * MIB, Unit::Bytes),
            LimitName::Output | LimitName::Response => (4 * GIB, Unit::Bytes),
            LimitName::Requests => (1_000_000, Unit::Count),
            LimitName::Process => (1_000_000, Unit::Count),
            LimitName::Tokens => (10_000_000_000, Unit::Count),
        };
        LimitValue { amount, unit }
    }

    /// What it counts, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            LimitName::Memory => "all linear memories together",
            LimitName::Deadline => "the guest's own time in a call; in `open` 5 s",
            LimitName::WallTime => "a call, with what the host does in it",
            LimitName::Transfer => "data from the guest to the host in one call",
            LimitName::Log => "log lines in a run",
            LimitName::Output => "files that it writes, together",
            LimitName::Requests => "HTTP requests in a run",
            LimitName::Response => "the body of one HTTP response",
            LimitName::Process => "programs that it runs in a run",
            LimitName::Tokens => "tokens of models in a run, read and written",
        }
    }

    /// What a plugin of this kind has without a grant; none where that is nothing.
    pub fn default_of(self, kind: Kind) -> Option<LimitValue> {
        let limits = limits(kind);
        let amount = match self {
            LimitName::Memory => limits.memory_bytes,
            LimitName::Deadline => limits.call_time.as_secs(),
            LimitName::WallTime => limits.wall_time.as_secs(),
            LimitName::Transfer => limits.transfer_bytes,
            LimitName::Log => limits.log_bytes,
            LimitName::Output => limits.output_bytes,
            LimitName::Requests => limits.requests,
            LimitName::Response => limits.response_bytes,
            LimitName::Process => limits.process_runs,
            LimitName::Tokens => limits.tokens,
        };
        let unit = self.ceiling().unit;
        (amount > 0).then_some(LimitValue { amount, unit })
    }

    /// What a grant could raise a limit of `value` to: twice that, and the ceiling; nothing where it is there already.
    pub fn raise(self, value: u64) -> Option<(LimitValue, LimitValue)> {
        let ceiling = self.ceiling();
        let doubled = LimitValue {
            amount: value.max(1).saturating_mul(2).min(ceiling.amount),
            unit: ceiling.unit,
        };
        (value < ceiling.amount).then_some((doubled, ceiling))
    }

    /// Reads a value such as `512MiB`, `60s` or `64`.
    pub fn parse_value(self, text: &str) -> Result<LimitValue, String> {
        let ceiling = self.ceiling();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at_checked(digits).unwrap_or((text, ""));
        let factor = match (ceiling.unit, suffix) {
            (Unit::Bytes, "KiB") => KIB,
            (Unit::Bytes, "MiB") => MIB,
            (Unit::Bytes, "GiB") => GIB,
            (Unit::Bytes, "") | (Unit::Seconds, "s") | (Unit::Count, "") => 1,
            (Unit::Seconds, "min") => 60,
            (Unit::Seconds, "h") => 3600,
            (Unit::Bytes, "TiB") => 1 << 40,
            (unit, _) => {
                return Err(format!(
                    "has a value that is not {}",
                    match unit {
                        Unit::Bytes => "a size such as `512MiB`",
                        Unit::Seconds => "a time such as `60s`",
                        Unit::Count => "a count such as `64`",
                    }
                ));
            }
        };
        let amount = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        match amount {
            Some(amount) if amount > 0 && amount <= ceiling.amount => Ok(LimitValue {
                amount,
                unit: ceiling.unit,
            }),
            _ => Err(format!("has a value outside 1 to its ceiling {ceiling}")),
        }
    }
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.amount;
        match self.unit {
            Unit::Bytes if amount.is_multiple_of(GIB) => write!(f, "{}GiB", amount / GIB),
            Unit::Bytes if amount.is_multiple_of(MIB) => write!(f, "{}MiB", amount / MIB),
            Unit::Bytes if amount.is_multiple_of(KIB) => write!(f, "{}KiB", amount / KIB),
            Unit::Bytes | Unit::Count => write!(f, "{amount}"),
            Unit::Seconds => write!(f, "{amount}s"),
        }
    }
}

impl Limits {
    /// Raises the named limits; a grant below the default changes nothing.
    pub fn raised(mut self, values: impl Iterator<Item = (LimitName, LimitValue)>) -> Limits {
        for (name, value) in values {
            let amount = value.amount;
            let time = Duration::from_secs(amount);
            match name {
                LimitName::Memory => self.memory_bytes = self.memory_bytes.max(amount),
                LimitName::Deadline => {
                    self.open_time = self.open_time.max(time);
                    self.call_time = self.call_time.max(time);
                }
                LimitName::WallTime => self.wall_time = self.wall_time.max(time),
                LimitName::Transfer => self.transfer_bytes = self.transfer_bytes.max(amount),
                LimitName::Log => self.log_bytes = self.log_bytes.max(amount),
                LimitName::Output => self.output_bytes = self.output_bytes.max(amount),
                LimitName::Requests => self.requests = self.requests.max(amount),
                LimitName::Response => self.response_bytes = self.response_bytes.max(amount),
                LimitName::Process => self.process_runs = self.process_runs.max(amount),
                LimitName::Tokens => self.tokens = self.tokens.max(amount),
            }
        }
        self
    }
}
