//! The dead-letter queues.

use super::Judge;
use crate::{
    aws::Received,
    torture::{content::Dataset, feed::Fed, plan::Message, stand::Stand},
};
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

impl Judge<'_> {
    /// Every dead letter was sent, by us or to what comes after a commit, and forwarded for a reason, and none is missing.
    pub(super) async fn judge_dead_letters(&mut self, fed: &Fed, stand: &Stand) -> Result<()> {
        let messages: BTreeMap<&str, usize> = fed.sent.iter().map(|(body, number)| (body.as_str(), *number)).collect();
        let dead = stand.pipeline.take_dead_letters().await?;
        self.verdict.dead_letters = dead.len();
        let (mut dead_keys, mut dead_messages) = (HashSet::new(), HashSet::new());
        for letter in &dead {
            let Some(number) = messages.get(letter.body.as_str()) else {
                self.judge_followed_letter(letter, Dataset::Post);
                continue;
            };
            dead_messages.insert(*number);
            let acts: &[usize] = match &self.plan.messages[*number] {
                Message::Acts(acts, _) => acts,
                Message::Bare(act) => std::slice::from_ref(act),
                Message::Unreadable(_) | Message::Unrouted(_) => continue,
                Message::Skipped(_) | Message::TestEvent => &[],
            };
            let keys: Vec<usize> = acts.iter().map(|act| self.plan.acts[*act].key).collect();
            self.judge_cause(letter, &keys);
            dead_keys.extend(keys);
        }
        if let Some(more) = &stand.more {
            let dead = more.steps.take_dead_letters().await?;
            self.verdict.dead_letters += dead.len();
            for letter in &dead {
                self.judge_followed_letter(letter, Dataset::Fan);
            }
        }
        for key in 0..self.plan.keys.len() {
            let dataset = self.plan.keys[key].dataset;
            let must = self.plan.acts_of(key).next_back().is_some_and(|last| self.fails(dataset, last));
            if must && !dead_keys.contains(&key) {
                self.complain(Some(key), "failed, and no dead letter says so".into());
            }
        }
        for (number, message) in self.plan.messages.iter().enumerate() {
            if matches!(message, Message::Unreadable(_) | Message::Unrouted(_)) && !dead_messages.contains(&number) {
                self.complain(None, format!("{message:?} is not in the dead-letter queue"));
            }
        }
        Ok(())
    }

    /// A dead letter that only a commit can have sent, to this dataset.
    fn judge_followed_letter(&mut self, letter: &Received, dataset: Dataset) {
        let said: Value = serde_json::from_str(&letter.body).unwrap_or_default();
        let key = self.plan.keys.iter().position(|key| said["key"] == key.name);
        match key {
            Some(key) if said["dataset"] == dataset.name() && self.is_of(dataset, key) => {
                self.judge_cause(letter, &[key]);
            }
            _ => self.complain(key, format!("a dead letter that nobody sent: {}", letter.body)),
        }
    }

    fn judge_cause(&mut self, letter: &Received, keys: &[usize]) {
        let reason = letter.attributes.get("penstock-reason");
        let fails = |key: &usize| {
            let dataset = self.plan.keys[*key].dataset;
            self.plan.acts_of(*key).any(|act| self.fails(dataset, act))
        };
        if reason.is_none() || !keys.iter().any(fails) {
            let error = letter.attributes.get("penstock-error");
            let what = format!("a dead letter without cause ({reason:?}, {error:?}): {}", letter.body);
            self.complain(keys.first().copied(), what);
        }
    }
}
