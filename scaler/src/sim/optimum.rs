//! What a scheduler that knows the future would need: the bound everything is measured against.
//!
//! The work done by any time must lie between the work that is due by then and
//! the work that has arrived. The shortest path through that tube (a taut
//! string) keeps the pool as even as it can be, so it pays for the fewest
//! start-ups, and it never pays for an idle worker.

use super::workload::Load;

/// The grid, in seconds.
const STEP_SECS: f64 = 10.0;

/// What a clairvoyant schedule needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Optimum {
    /// Worker time.
    pub worker_secs: f64,
    /// Messages that even it would not have done in time.
    pub misses: u64,
}

/// Returns what a clairvoyant schedule needs for a load.
pub fn optimum(load: &Load) -> Optimum {
    let jobs: Vec<_> = load.judged().collect();
    let Some(last) = jobs.last() else { return Optimum::default() };
    let slots = f64::from(load.workload.slots_per_worker);
    let steps = ((last.at + load.workload.drain_within) / STEP_SECS).ceil() as usize + 1;
    let late = (load.workload.drain_within / STEP_SECS).round().max(1.0) as usize;
    let mut arrived = vec![0.0; steps + 1];
    for job in &jobs {
        arrived[(job.at / STEP_SECS).ceil() as usize] += job.work_secs;
    }
    for i in 1..arrived.len() {
        arrived[i] += arrived[i - 1];
    }
    let total = arrived[steps];
    let due: Vec<f64> = (0..=steps).map(|i| if i < late { 0.0 } else { arrived[i - late] }).collect();
    let slopes = taut_string(&due, &arrived);
    let (mut starts, mut before) = (0.0, 0.0_f64);
    for slope in slopes {
        let workers = (slope / STEP_SECS / slots - 1e-9).ceil().max(0.0);
        starts += (workers - before).max(0.0);
        before = workers;
    }
    Optimum { worker_secs: total / slots + load.workload.start_up * starts, misses: misses(load) }
}

/// Returns the messages that would be late even with every worker there from the start.
fn misses(load: &Load) -> u64 {
    let slots = load.workload.max * load.workload.slots_per_worker;
    let slots = f64::from(load.workload.sink_slots.map_or(slots, |takes| takes.min(slots)));
    // First come first served by all slots together, which is the best there is for one common promise.
    let mut free_at = 0.0_f64;
    let mut late = 0;
    for job in load.judged() {
        let begins = free_at.max(job.at);
        free_at = begins + job.work_secs / slots;
        let done = free_at.max(begins + job.work_secs);
        late += u64::from(done > job.at + load.workload.drain_within);
    }
    late
}

/// Returns the increments of the shortest path that stays between two rising curves and ends at the upper one's end.
fn taut_string(lower: &[f64], upper: &[f64]) -> Vec<f64> {
    let n = lower.len();
    let end = n - 1;
    let mut path = vec![0.0; n];
    let (mut from, mut height) = (0, 0.0);
    while from < end {
        // The widest cone of straight lines that stay in the tube.
        let (mut steepest, mut flattest) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut steepest_at, mut flattest_at) = (from, from);
        let mut turn = None;
        for to in from + 1..=end {
            let run = (to - from) as f64;
            let (low, high) = if to == end { (upper[end], upper[end]) } else { (lower[to], upper[to]) };
            let (rise_low, rise_high) = ((low - height) / run, (high - height) / run);
            if rise_low > steepest {
                turn = Some((steepest_at, steepest));
                break;
            }
            if rise_high < flattest {
                turn = Some((flattest_at, flattest));
                break;
            }
            if rise_high <= steepest {
                (steepest, steepest_at) = (rise_high, to);
            }
            if rise_low >= flattest {
                (flattest, flattest_at) = (rise_low, to);
            }
        }
        let (to, slope) = turn.unwrap_or((end, (upper[end] - height) / (end - from) as f64));
        for (i, place) in path.iter_mut().enumerate().take(to + 1).skip(from + 1) {
            *place = height + slope * (i - from) as f64;
        }
        height = path[to];
        from = to;
    }
    path.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::workload::{Workload, built_in},
        *,
    };

    fn of(name: &str) -> Workload {
        built_in().into_iter().find(|workload| workload.name == name).expect(name)
    }

    #[test]
    fn burst_needs_its_work_and_one_start_of_an_even_pool() {
        let optimum = optimum(&of("burst").draw(1));
        // 20 000 s of work in 900 s are 23 workers, started once.
        assert!((optimum.worker_secs - 20_000.0 - 23.0 * 45.0).abs() < 300.0, "{optimum:?}");
        assert_eq!(optimum.misses, 0);
    }

    #[test]
    fn steady_load_needs_little_more_than_its_work() {
        let load = of("steady").draw(1);
        let work: f64 = load.arrivals.iter().map(|job| job.work_secs).sum();
        let share = optimum(&load).worker_secs / work;
        assert!((1.0..1.01).contains(&share), "{share}");
    }

    #[test]
    fn impossible_promise_is_known_to_be_one() {
        let load = Workload { max: 10, ..of("burst") }.draw(1);
        assert!(optimum(&load).misses > 10_000);
    }

    #[test]
    fn path_stays_in_the_tube() {
        let upper = [0.0, 5.0, 5.0, 5.0, 9.0, 9.0, 20.0, 20.0, 20.0];
        let lower = [0.0, 0.0, 0.0, 4.0, 5.0, 5.0, 9.0, 9.0, 20.0];
        let mut height = 0.0;
        for (i, step) in taut_string(&lower, &upper).iter().enumerate() {
            height += step;
            assert!(height >= lower[i + 1] - 1e-9 && height <= upper[i + 1] + 1e-9, "{i}: {height}");
        }
        assert!((height - 20.0_f64).abs() < 1e-9);
    }
}
