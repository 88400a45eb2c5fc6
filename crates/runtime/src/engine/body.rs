//! Putting a container into the engine's words, and its answers into ours.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerState, ContainerStateStatusEnum, ContainerStatsResponse,
    HostConfig, HostConfigLogConfig,
};

use crate::shim::job::{Command, Work};
use crate::spec::ContainerSpec;
use crate::status::{Exit, Stats, Status};

/// What the embedded runtime leaves a container's root.
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
];
/// The engine's own copy of the output, which we copy away as it comes.
const LOG_SIZE: &str = "64m";
const NANOS_PER_MILLI_CPU: i64 = 1_000_000;

/// Whose containers these are, and which one this is.
pub(super) const SCOPE_LABEL: &str = "org.tradewind.scope";
pub(super) const ID_LABEL: &str = "org.tradewind.lease";
/// What it was made from, so that an agent that lost its folder knows.
pub(super) const SPEC_LABEL: &str = "org.tradewind.spec";

pub(super) struct Request<'a> {
    pub(super) image: &'a str,
    pub(super) scope: &'a str,
    pub(super) id: &'a str,
    pub(super) spec: &'a ContainerSpec,
    pub(super) command: Command,
    pub(super) has_init: bool,
}

impl Request<'_> {
    pub(super) fn body(self) -> Result<ContainerCreateBody, serde_json::Error> {
        let Work::Run(mut words) = self.command.work else {
            unreachable!("the engine runs only images' commands");
        };
        let arguments = words.split_off(1);
        let env = self.command.env.into_iter();
        let labels = [
            (SCOPE_LABEL, self.scope.to_owned()),
            (ID_LABEL, self.id.to_owned()),
            (SPEC_LABEL, serde_json::to_string(self.spec)?),
        ];
        let limits = self.spec.limits;
        let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
        let host = HostConfig {
            memory: Some(memory),
            // Memory and swap together: no swap on top.
            memory_swap: Some(memory),
            nano_cpus: Some(i64::from(limits.cpu_milli) * NANOS_PER_MILLI_CPU),
            pids_limit: Some(i64::from(limits.pids)),
            network_mode: Some("none".to_owned()),
            init: Some(self.has_init),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([(
                    "max-size".to_owned(),
                    LOG_SIZE.to_owned(),
                )])),
            }),
            ..HostConfig::default()
        };
        Ok(ContainerCreateBody {
            image: Some(self.image.to_owned()),
            hostname: self.spec.hostname.clone(),
            user: self.command.user,
            env: Some(env.map(|(name, value)| format!("{name}={value}")).collect()),
            entrypoint: Some(words),
            cmd: Some(arguments),
            working_dir: Some(self.command.workdir),
            labels: Some(labels.map(|(n, v)| (n.to_owned(), v)).into()),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        })
    }
}

/// Reads where the engine says a container stands.
pub(super) fn status(state: &ContainerState) -> Status {
    use ContainerStateStatusEnum as Is;
    let started_at_ms = state.started_at.as_deref().and_then(millis).unwrap_or(0);
    match state.status {
        _ if state.running == Some(true) => Status::Running { started_at_ms },
        Some(Is::RUNNING | Is::PAUSED | Is::RESTARTING | Is::STOPPING) => {
            Status::Running { started_at_ms }
        }
        Some(Is::EXITED | Is::DEAD | Is::REMOVING) if started_at_ms > 0 => {
            Status::Exited(exit(state, started_at_ms))
        }
        _ => Status::Created,
    }
}

fn exit(state: &ContainerState, started_at_ms: u64) -> Exit {
    let code = state.exit_code.unwrap_or(255).clamp(0, 255);
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    let oom = state.oom_killed == Some(true);
    let ended = state.finished_at.as_deref().and_then(millis).unwrap_or(0);
    Exit {
        code,
        // Only the code is told: what a shell would say of a signal is taken for one.
        signal: code
            .checked_sub(128)
            .filter(|s| (1..=64).contains(s))
            .map(i32::from),
        oom,
        started_at_ms,
        ended_at_ms: ended.max(started_at_ms),
        reason: None,
        stats: Stats {
            oom_kills: u64::from(oom),
            ..Stats::default()
        },
    }
}

pub(super) fn stats(found: &ContainerStatsResponse) -> Stats {
    let cpu = found.cpu_stats.as_ref();
    let usage = cpu.and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    let throttled = cpu.and_then(|cpu| cpu.throttling_data.as_ref()?.throttled_time);
    let memory = found.memory_stats.as_ref();
    let now = memory.and_then(|m| m.usage).unwrap_or(0);
    Stats {
        cpu_ns: usage.unwrap_or(0),
        memory_bytes: now,
        memory_bytes_max: memory.and_then(|m| m.max_usage).unwrap_or(0).max(now),
        pids: found
            .pids_stats
            .as_ref()
            .and_then(|p| p.current)
            .unwrap_or(0),
        oom_kills: 0,
        throttled_ns: throttled.unwrap_or(0),
    }
}

/// Reads a time as engines write it, RFC 3339; `None` for the zero time that stands for never.
pub(super) fn millis(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let zone = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let numbers = |text: &str, by: char| -> Option<[i64; 3]> {
        let all: Option<Vec<i64>> = text.split(by).map(|n| n.parse().ok()).collect();
        all?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let offset = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign, hours) => {
            let (h, m) = hours.split_once(':')?;
            let minutes = h.parse::<i64>().ok()? * 60 + m.parse::<i64>().ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch by the civil calendar: years begin in March, so that leap days come last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
    let thousandths = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    u64::try_from(seconds * 1000 + thousandths).ok()
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn times_of_both_engines_are_read() {
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2000-02-29T12:00:00.5Z"), Some(951_825_600_500));
        assert_eq!(
            millis("2024-03-01T01:00:00.123456789+01:00"),
            Some(1_709_251_200_123)
        );
        for never in [
            "0001-01-01T00:00:00Z",
            "",
            "soon",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
        ] {
            assert_eq!(millis(never), None, "{never}");
        }
    }
}
