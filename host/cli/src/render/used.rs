//! The closing line of `-v`: what each plugin used.

use dlm_core::inert::inert;
use dlm_core::ports::plugin::PluginUse;
use dlm_core::units::{duration, size};

/// Two lines: what it did by its grants, and what it cost.
pub fn line(used: &PluginUse) -> String {
    let powers = powers(used);
    let powers = match powers.as_slice() {
        [] => "used no capability".to_owned(),
        powers => powers.join("; "),
    };
    let code = match used.compile_ms {
        Some(ms) => format!("compiled in {}", time(ms * 1000)),
        None => "code from the cache".to_owned(),
    };
    format!(
        "{} {}: {powers}\n  {}, {}: {} of its own, {} in the host; at most {} of memory; {code}",
        inert(&used.plugin),
        inert(&used.version),
        counted(used.instances, "instance"),
        counted(used.calls, "call"),
        time(used.guest_us),
        time(used.host_us),
        size(used.memory_peak_bytes),
    )
}

fn powers(used: &PluginUse) -> Vec<String> {
    let mut powers = Vec::new();
    if used.model_requests > 0 {
        let (requests, tokens) = (
            counted(used.model_requests, "request"),
            counted(used.model_tokens, "token"),
        );
        powers.push(format!("model {requests}, {tokens}"));
    }
    for (host, of_host) in &used.http {
        powers.push(format!(
            "http {} {}, {} sent, {} received",
            inert(host),
            counted(of_host.requests, "request"),
            size(of_host.bytes_sent),
            size(of_host.bytes_received)
        ));
    }
    for (program, runs) in &used.programs {
        powers.push(format!("exec {} {}", inert(program), counted(*runs, "run")));
    }
    for (name, times) in &used.secrets {
        powers.push(format!("secret {} taken {}", inert(name), counted(*times, "time")));
    }
    if used.files_read > 0 {
        powers.push(format!(
            "read {} ({})",
            counted(used.files_read, "file"),
            size(used.bytes_read)
        ));
    }
    if used.files_written > 0 {
        powers.push(format!(
            "wrote {} ({})",
            counted(used.files_written, "file"),
            size(used.bytes_written)
        ));
    }
    powers
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn time(us: u64) -> String {
    duration(us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use dlm_core::ports::plugin::HttpUse;

    use super::*;

    #[test]
    fn what_was_used_is_said_and_what_was_not_is_left_out() {
        let mut used = PluginUse {
            plugin: "rubric".to_owned(),
            version: "1.2.0".to_owned(),
            instances: 1,
            calls: 3,
            guest_us: 1_500,
            host_us: 2_000_000,
            memory_peak_bytes: 1 << 20,
            compile_ms: Some(43),
            ..PluginUse::default()
        };
        assert!(
            line(&used)
                .starts_with("rubric 1.2.0: used no capability\n  1 instance, 3 calls: 1.5 ms of its own, 2 s in")
        );
        assert!(line(&used).ends_with("compiled in 43 ms"));
        used.model_requests = 412;
        used.model_tokens = 1;
        let requests = HttpUse {
            requests: 3,
            bytes_sent: 5,
            bytes_received: 18_000,
        };
        used.http.insert("api.example.com".to_owned(), requests);
        used.compile_ms = None;
        let text = line(&used);
        assert!(
            text.contains("model 412 requests, 1 token; http api.example.com 3 requests, "),
            "{text}"
        );
        assert!(text.ends_with("code from the cache"), "{text}");
    }
}
