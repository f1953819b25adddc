//! The second wall: what the kernel holds back from a program, a process or a thread that works for a stranger.
//!
//! Invariants: a wall is raised around the calling thread and everything that it starts afterwards, and is never taken down;
//! what this kernel lacks is left out and told by [`facts`], what it has and refuses is an error. The one user of `landlock` and
//! `seccompiler`.

use std::io;

use dlm_core::Wall;

/// What this kernel can hold back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallFacts {
    /// The version of Landlock, which keeps files (from 1), TCP ports (from 4) and signals (from 6); none where the kernel was
    /// made or started without it.
    pub landlock: Option<u32>,
    /// System calls can be refused by seccomp: those that make sockets.
    pub has_seccomp: bool,
    /// Programs can be kept from the rights of another user (`sudo` and the like).
    pub has_no_new_privileges: bool,
}

impl WallFacts {
    /// Says whether files are kept.
    pub fn keeps_files(self) -> bool {
        self.landlock.is_some()
    }

    /// Says whether ports are kept.
    pub fn keeps_ports(self) -> bool {
        self.landlock.is_some_and(|version| version >= 4)
    }
}

/// Asks the kernel what it has.
pub fn facts() -> WallFacts {
    system::facts()
}

/// Raises a wall around this thread and all that it starts from now on.
///
/// **Errors**: the kernel has what is needed and refuses it.
pub fn raise(wall: &Wall) -> io::Result<()> {
    system::raise(wall)
}

/// Systems without such walls: nothing is held back, and the facts say so.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use dlm_core::Wall;

    use super::WallFacts;

    pub fn facts() -> WallFacts {
        WallFacts::default()
    }

    pub fn raise(_wall: &Wall) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::BTreeMap;
    use std::io;
    use std::path::Path;

    use dlm_core::{Network, Wall};
    use landlock::{
        ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
        RulesetCreatedAttr, Scope,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    use super::WallFacts;

    /// The newest version that is asked for; what the kernel does not know of it is left out by the crate.
    const NEWEST: ABI = ABI::V9;
    /// Devices that programs write to: sinks, sources, and those that compute. No terminal is among them.
    const DEVICES: [&str; 7] = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/dri",
        "/dev/kfd",
    ];
    /// The beginning of the names of NVIDIA's devices.
    const NVIDIA: &str = "nvidia";
    /// Where a server's own processes share memory.
    const SHARED_MEMORY: &str = "/dev/shm";
    /// The port of name servers.
    const NAMES_PORT: u16 = 53;
    /// Names system calls of the x32 kind, which reach the same functions by other numbers.
    #[cfg(target_arch = "x86_64")]
    const X32: i64 = 0x4000_0000;

    pub fn facts() -> WallFacts {
        WallFacts {
            landlock: landlock_version(),
            has_seccomp: architecture().is_some() && prctl(libc::PR_GET_SECCOMP, 0).is_ok(),
            has_no_new_privileges: prctl(libc::PR_GET_NO_NEW_PRIVS, 0).is_ok(),
        }
    }

    /// Asks or sets an attribute of this thread that is a number.
    fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
        let unused: libc::c_ulong = 0;
        // SAFETY: these options take numbers and read no memory.
        match unsafe { libc::prctl(option, value, unused, unused, unused) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    pub fn raise(wall: &Wall) -> io::Result<()> {
        let facts = facts();
        if facts.has_no_new_privileges {
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
        }
        if facts.keeps_files() {
            keep_files(wall).map_err(io::Error::other)?;
        }
        if facts.has_seccomp {
            keep_sockets(&wall.network)?;
        }
        Ok(())
    }

    fn landlock_version() -> Option<u32> {
        /// Asks for the version instead of making rules.
        const VERSION: u32 = 1;
        // SAFETY: with this flag the kernel reads no memory and makes nothing.
        let found = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
        u32::try_from(found).ok().filter(|version| *version > 0)
    }

    fn architecture() -> Option<TargetArch> {
        TargetArch::try_from(std::env::consts::ARCH).ok()
    }

    fn keep_files(wall: &Wall) -> Result<(), landlock::RulesetError> {
        let mut rules = Ruleset::default().handle_access(AccessFs::from_write(NEWEST))?;
        if wall.network != Network::Server {
            rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let mut rules = rules.scope(Scope::from_all(NEWEST))?.create()?;
        for folder in &wall.folders {
            rules = allow(rules, folder)?;
        }
        for device in devices() {
            rules = allow(rules, &device)?;
        }
        match &wall.network {
            Network::None => {}
            Network::Server => rules = allow(rules, Path::new(SHARED_MEMORY))?,
            Network::Ports(ports) => {
                for port in ports.iter().chain([&NAMES_PORT]) {
                    rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
                }
            }
        }
        rules.restrict_self().map(drop)
    }

    /// Allows changes below a path; one that is not there needs no rule.
    fn allow(rules: RulesetCreated, path: &Path) -> Result<RulesetCreated, landlock::RulesetError> {
        let Ok(opened) = PathFd::new(path) else {
            return Ok(rules);
        };
        let all = match path.is_dir() {
            true => AccessFs::from_write(NEWEST),
            false => AccessFs::from_write(NEWEST) & AccessFs::from_file(NEWEST),
        };
        rules.add_rule(PathBeneath::new(opened, all))
    }

    fn devices() -> Vec<std::path::PathBuf> {
        let listed = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let nvidia = listed.filter(|entry| entry.file_name().to_string_lossy().starts_with(NVIDIA));
        DEVICES
            .iter()
            .map(Into::into)
            .chain(nvidia.map(|entry| entry.path()))
            .collect()
    }

    /// Refuses the calls that make sockets. A ring for calls is refused too: it would make them unseen.
    fn keep_sockets(network: &Network) -> io::Result<()> {
        let sockets = match network {
            Network::Server => return Ok(()),
            Network::None => Vec::new(),
            Network::Ports(_) => vec![other_family()?],
        };
        let mut rules = BTreeMap::from([(libc::SYS_socket, sockets), (libc::SYS_io_uring_setup, Vec::new())]);
        #[cfg(target_arch = "x86_64")]
        rules.extend(rules.clone().into_iter().map(|(number, rules)| (number | X32, rules)));
        let refused = SeccompAction::Errno(libc::EACCES.unsigned_abs());
        let architecture = architecture().expect("asked before");
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).map_err(io::Error::other)?;
        let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)
    }

    /// Matches a socket that is neither of the internet nor of the kernel's own table of addresses, which resolving needs: one to
    /// another program of this machine, for example.
    fn other_family() -> io::Result<SeccompRule> {
        let is_not = |family: i32| {
            SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Ne,
                u64::from(family.unsigned_abs()),
            )
        };
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(is_not);
        let conditions: Result<Vec<_>, _> = families.into_iter().collect();
        let rule = conditions.and_then(SeccompRule::new);
        rule.map_err(io::Error::other)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use dlm_core::{Network, Wall};

    use super::{facts, raise};

    /// Works behind a wall, on a thread that ends with it.
    fn behind<T: Send>(wall: &Wall, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                raise(wall).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// What is expected of a step that a kernel which can holds back.
    fn expect<T>(done: std::io::Result<T>, is_allowed: bool, what: &str) {
        match done {
            Ok(_) => assert!(is_allowed, "{what} was done"),
            Err(error) => {
                assert!(!is_allowed, "{what}: {error}");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
            }
        }
    }

    #[test]
    fn files_are_read_everywhere_and_written_in_the_folders() {
        let own = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let file = other.path().join("there");
        std::fs::write(&file, "before").unwrap();
        let wall = Wall {
            folders: vec![own.path().to_owned(), "/no/such/folder".into()],
            network: Network::None,
        };
        let is_open = !facts().keeps_files();
        behind(&wall, || {
            assert_eq!(std::fs::read(&file).unwrap(), b"before");
            expect(
                std::fs::write(own.path().join("new"), "x"),
                true,
                "writing in the folder",
            );
            expect(std::fs::write("/dev/null", "x"), true, "writing into nothing");
            expect(
                std::fs::write(other.path().join("new"), "x"),
                is_open,
                "making a file elsewhere",
            );
            expect(std::fs::write(&file, "after"), is_open, "changing a file elsewhere");
            expect(
                std::fs::rename(&file, own.path().join("taken")),
                is_open,
                "moving a file",
            );
            expect(std::fs::remove_file(&file), is_open, "removing a file elsewhere");
        });
        if !is_open {
            assert_eq!(std::fs::read(&file).unwrap(), b"before");
        }
    }

    #[test]
    fn no_network_means_no_socket() {
        let wall = Wall {
            folders: Vec::new(),
            network: Network::None,
        };
        let directory = tempfile::tempdir().unwrap();
        let is_open = !facts().has_seccomp;
        behind(&wall, || {
            expect(TcpListener::bind("127.0.0.1:0"), is_open, "listening");
            expect(UdpSocket::bind("127.0.0.1:0"), is_open, "UDP");
            expect(
                UnixListener::bind(directory.path().join("s")),
                is_open,
                "a local socket",
            );
        });
    }

    #[test]
    fn granted_ports_are_reached_and_no_others() {
        let granted = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let wall = Wall {
            folders: Vec::new(),
            network: Network::Ports(vec![granted.local_addr().unwrap().port()]),
        };
        let directory = tempfile::tempdir().unwrap();
        behind(&wall, || {
            expect(
                TcpStream::connect(granted.local_addr().unwrap()),
                true,
                "the granted port",
            );
            let is_open = !facts().keeps_ports();
            expect(TcpStream::connect(other.local_addr().unwrap()), is_open, "another port");
            expect(TcpListener::bind("127.0.0.1:0"), is_open, "listening");
            let is_open = !facts().has_seccomp;
            expect(
                UnixListener::bind(directory.path().join("s")),
                is_open,
                "a local socket",
            );
            expect(UdpSocket::bind("127.0.0.1:0"), true, "asking for a name");
        });
    }

    #[test]
    fn a_server_listens_and_its_files_stay_where_they_are() {
        let other = tempfile::tempdir().unwrap();
        let own = tempfile::tempdir().unwrap();
        let wall = Wall {
            folders: vec![own.path().to_owned()],
            network: Network::Server,
        };
        behind(&wall, || {
            expect(TcpListener::bind("127.0.0.1:0"), true, "listening");
            expect(UnixListener::bind(own.path().join("s")), true, "its own socket");
            let is_open = !facts().keeps_files();
            expect(
                std::fs::write(other.path().join("x"), "x"),
                is_open,
                "writing elsewhere",
            );
        });
    }

    #[test]
    fn what_is_started_behind_the_wall_stays_behind_it() {
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("x");
        let wall = Wall {
            folders: Vec::new(),
            network: Network::None,
        };
        let status = behind(&wall, || {
            std::process::Command::new("sh")
                .arg("-c")
                .arg("echo x > \"$0\"")
                .arg(&path)
                .status()
        });
        assert_eq!(status.unwrap().success(), !facts().keeps_files());
        assert_eq!(path.exists(), !facts().keeps_files());
    }
}
