//! Email-authentication telemetry as a DMARC collector would write it: made from a seed, the same every time.
//!
//! A [`Load`] is a number of events with distinct ids; an event is a pure function of the load and
//! its position, so any part of it can be written again, in any format, by any process.
//! Ids come in random order over the whole load, as a hash-partitioned write leaves them.

mod write;

pub use write::{Format, insert, write, write_lean};

use std::ops::Range;

/// The table the events go to.
pub const TABLE: &str = "CREATE TABLE telemetry (
    event_id      bigint PRIMARY KEY,
    observed_at   timestamptz NOT NULL,
    sender_domain text NOT NULL,
    source_ip     text NOT NULL,
    spf           text NOT NULL,
    dkim          text NOT NULL,
    dmarc         text NOT NULL,
    disposition   text NOT NULL,
    message_count integer NOT NULL,
    spend         numeric(12,4),
    score         double precision,
    tags          text[] NOT NULL,
    meta          jsonb
)";

/// The table's columns, in order.
pub const COLUMNS: [&str; 13] = [
    "event_id",
    "observed_at",
    "sender_domain",
    "source_ip",
    "spf",
    "dkim",
    "dmarc",
    "disposition",
    "message_count",
    "spend",
    "score",
    "tags",
    "meta",
];

/// The table without its last two columns, whose types Postgres itself has to parse: for measurements.
pub const LEAN_TABLE: &str = "CREATE TABLE telemetry (
    event_id      bigint PRIMARY KEY,
    observed_at   timestamptz NOT NULL,
    sender_domain text NOT NULL,
    source_ip     text NOT NULL,
    spf           text NOT NULL,
    dkim          text NOT NULL,
    dmarc         text NOT NULL,
    disposition   text NOT NULL,
    message_count integer NOT NULL,
    spend         numeric(12,4),
    score         double precision
)";

/// Columns of [`LEAN_TABLE`].
pub const LEAN_COLUMNS: usize = 11;

/// How many domains send mail; a few of them send most of it.
const N_DOMAINS: usize = 5_000;

/// 2026-01-01T00:00:00Z in microseconds.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

/// Ninety days of events.
const PERIOD_MICROS: u64 = 90 * 86_400 * 1_000_000;

/// A number of events with distinct ids.
#[derive(Debug, Clone)]
pub struct Load {
    seed: u64,
    n_rows: u64,
    changed_percent: u64,
    domains: Vec<String>,
    half_bits: u32,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The key.
    pub event_id: i64,
    /// Microseconds since 1970.
    pub observed_at_micros: i64,
    /// Who claims to have sent the mail.
    pub sender_domain: String,
    /// Who did; IPv4 or IPv6.
    pub source_ip: String,
    /// SPF's verdict.
    pub spf: &'static str,
    /// DKIM's verdict.
    pub dkim: &'static str,
    /// DMARC's verdict.
    pub dmarc: &'static str,
    /// What the receiver did.
    pub disposition: &'static str,
    /// How many mails.
    pub message_count: i32,
    /// In ten-thousandths; NULL for some.
    pub spend_e4: Option<i64>,
    /// Between 0 and 1.
    pub score: f64,
    /// None to four.
    pub tags: Vec<&'static str>,
    /// A JSON object.
    pub meta: String,
}

impl Load {
    /// Returns the load of that seed and size.
    #[must_use]
    pub fn new(seed: u64, n_rows: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let domains = (0..N_DOMAINS).map(|_| domain(&mut random)).collect();
        // Half the bits of the smallest even power of two that holds all positions.
        let half_bits = n_rows.max(2).next_power_of_two().trailing_zeros().div_ceil(2);
        Self { seed, n_rows, changed_percent: 0, domains, half_bits }
    }

    /// Returns a later version of the load, in which so many of a hundred events have other values.
    #[must_use]
    pub fn changed(mut self, percent: u64) -> Self {
        self.changed_percent = percent;
        self
    }

    /// Returns how many events there are.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns the positions that belong to object `index` of `n_objects`.
    #[must_use]
    pub fn object(&self, index: u64, n_objects: u64) -> Range<u64> {
        let bound = |index: u64| u64::try_from(u128::from(self.n_rows) * u128::from(index) / u128::from(n_objects));
        let bound = |index| bound(index).expect("a part is not more than the whole");
        bound(index)..bound(index + 1)
    }

    /// Returns the events at those positions.
    pub fn events(&self, positions: Range<u64>) -> impl Iterator<Item = Event> + '_ {
        positions.map(|position| self.event(position))
    }

    /// Returns the event at a position.
    #[must_use]
    pub fn event(&self, position: u64) -> Event {
        let mut random = fastrand::Rng::with_seed(mix(self.seed ^ mix(position)));
        let popular = random.f64().powi(3) * self.domains.len() as f64;
        // Truncation is the point: the index of a domain.
        let sender_domain = self.domains[(popular as usize).min(self.domains.len() - 1)].clone();
        let spf = pick(&mut random, &["pass", "pass", "pass", "pass", "fail", "softfail", "none", "temperror"]);
        let dkim = pick(&mut random, &["pass", "pass", "pass", "pass", "pass", "fail", "none"]);
        let dmarc = if spf == "pass" || dkim == "pass" { "pass" } else { "fail" };
        let disposition = match dmarc {
            "pass" => "none",
            _ => pick(&mut random, &["none", "quarantine", "reject", "reject"]),
        };
        let mut event = Event {
            event_id: i64::try_from(self.permute(position)).unwrap_or(i64::MAX) + 1,
            observed_at_micros: EPOCH_MICROS + i64::try_from(random.u64(..PERIOD_MICROS)).unwrap_or(0),
            source_ip: source_ip(&mut random),
            spf,
            dkim,
            dmarc,
            disposition,
            message_count: (1.0 / (random.f64() + 0.001)) as i32 + 1,
            spend_e4: (random.u8(..10) > 0).then(|| random.i64(0..5_000_000)),
            score: f64::from(random.u32(..1_000_000)) / 1e6,
            tags: tags(&mut random),
            meta: meta(&mut random, &sender_domain),
            sender_domain,
        };
        if random.u64(..100) < self.changed_percent {
            event.message_count += 1;
            event.score = 1.0 - event.score;
        }
        event
    }

    /// Maps positions one to one to numbers of the same range, without order: a Feistel network, walked
    /// on until it lands in the range.
    fn permute(&self, position: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let mut number = position;
        loop {
            let (mut left, mut right) = (number >> self.half_bits, number & mask);
            for round in 0..4 {
                (left, right) = (right, left ^ (mix(self.seed ^ (right << 3) ^ round) & mask));
            }
            number = (left << self.half_bits) | right;
            if number < self.n_rows {
                return number;
            }
        }
    }
}

/// Scatters a number's bits (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn pick(random: &mut fastrand::Rng, from: &[&'static str]) -> &'static str {
    from[random.usize(..from.len())]
}

fn domain(random: &mut fastrand::Rng) -> String {
    const SYLLABLES: [&str; 20] = [
        "al", "ber", "cor", "dan", "el", "fin", "gra", "hol", "in", "jor", "kel", "lum", "mar", "nor", "ol", "pen",
        "qua", "ros", "sol", "tam",
    ];
    let mut name: String = (0..random.usize(2..5)).map(|_| pick(random, &SYLLABLES)).collect();
    name.push('.');
    name.push_str(pick(random, &["com", "com", "com", "net", "org", "io", "de", "co.uk", "fr"]));
    name
}

fn source_ip(random: &mut fastrand::Rng) -> String {
    if random.u8(..10) == 0 {
        return format!("2001:db8:{:x}:{:x}::{:x}", random.u16(1..), random.u16(1..), random.u16(1..));
    }
    format!("{}.{}.{}.{}", random.u8(1..224), random.u8(..), random.u8(..), random.u8(1..))
}

fn tags(random: &mut fastrand::Rng) -> Vec<&'static str> {
    const TAGS: [&str; 8] =
        ["bulk", "forwarded", "mailing list", "marketing", "new sender", "spoof, suspected", "transactional", "vip"];
    let chosen = random.u8(..) & random.u8(..);
    TAGS.iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0).map(|(_, tag)| *tag).take(4).collect()
}

fn meta(random: &mut fastrand::Rng, sender_domain: &str) -> String {
    format!(
        r#"{{"report_id":"{:016x}","selector":"s{}","envelope_from":"bounce-{}@{}","tls":{},"reason":{}}}"#,
        random.u64(..),
        random.u16(1..2048),
        random.u32(..1_000_000),
        sender_domain,
        pick(random, &["\"1.2\"", "\"1.3\"", "\"1.3\"", "null"]),
        pick(
            random,
            &["null", "null", "{\"type\":\"forwarded\",\"comment\":\"arc=pass\"}", "{\"type\":\"local_policy\"}"]
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_a_permutation_in_no_order() {
        for n_rows in [1, 2, 3, 1000, 4097] {
            let load = Load::new(7, n_rows);
            let ids: Vec<i64> = load.events(0..n_rows).map(|event| event.event_id).collect();
            let distinct: BTreeSet<_> = ids.iter().copied().collect();
            assert_eq!(distinct, (1..=i64::try_from(n_rows).unwrap()).collect());
        }
        let ids: Vec<i64> = Load::new(7, 1000).events(0..1000).map(|event| event.event_id).collect();
        let ascents = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&ascents), "{ascents} of 999 neighbours ascend");
    }

    #[test]
    fn objects_partition_the_load() {
        let load = Load::new(1, 10);
        let parts: Vec<_> = (0..3).map(|index| load.object(index, 3)).collect();
        assert_eq!(parts, [0..3, 3..6, 6..10]);
    }

    #[test]
    fn a_seed_gives_the_same_events_and_changes_only_the_share_asked_for() {
        let load = Load::new(42, 2000);
        assert_eq!(load.event(17), Load::new(42, 2000).event(17));
        assert_ne!(load.event(17).meta, Load::new(43, 2000).event(17).meta);
        let differing = |percent| {
            let later = load.clone().changed(percent);
            (0..2000).filter(|&position| load.event(position) != later.event(position)).count()
        };
        assert_eq!(differing(0), 0);
        assert!((100..300).contains(&differing(10)));
        assert_eq!(differing(100), 2000);
    }
}
