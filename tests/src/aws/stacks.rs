//! CloudFormation's stacks, over its query protocol.

use super::Account;
use crate::wait;
use anyhow::{Result, ensure};
use std::{collections::BTreeMap, time::Duration};

/// How long a stack may take; the emulator needs no time for most resources.
const LIMIT: Duration = Duration::from_secs(60);

/// A stack's outputs by name.
pub type Outputs = BTreeMap<String, String>;

impl Account {
    /// Creates a stack of a template and returns its outputs once it stands.
    ///
    /// # Errors
    /// When CloudFormation refuses the template or a resource; with its events.
    pub async fn create_stack(&self, name: &str, template: &str, parameters: &[(&str, &str)]) -> Result<Outputs> {
        let mut fields = vec![
            ("StackName".to_owned(), name.to_owned()),
            ("TemplateBody".to_owned(), template.to_owned()),
            // No template of ours names its roles, so the weaker capability has to do.
            ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned()),
        ];
        for (place, (key, value)) in (1..).zip(parameters) {
            fields.push((format!("Parameters.member.{place}.ParameterKey"), (*key).to_owned()));
            fields.push((format!("Parameters.member.{place}.ParameterValue"), (*value).to_owned()));
        }
        self.query("cloudformation", "CreateStack", &fields).await?;
        let named = [("StackName".to_owned(), name.to_owned())];
        let what = format!("stack {name}");
        let described = wait::until(&what, LIMIT, || async {
            let described = self.query("cloudformation", "DescribeStacks", &named).await?;
            let ended = texts(&described, "StackStatus").iter().all(|status| !status.ends_with("_IN_PROGRESS"));
            Ok(ended.then_some(described))
        });
        let described = described.await?;
        if texts(&described, "StackStatus") != ["CREATE_COMPLETE"] {
            let events = self.query("cloudformation", "DescribeStackEvents", &named).await?;
            let reasons = texts(&events, "ResourceStatusReason");
            ensure!(false, "stack {name}: {:?}: {}", texts(&described, "StackStatus"), reasons.join("; "));
        }
        Ok(texts(&described, "OutputKey").into_iter().zip(texts(&described, "OutputValue")).collect())
    }
}

/// Returns what stands in every element of that name.
pub fn texts(xml: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let after = xml.split(open.as_str()).skip(1);
    let inside = after.filter_map(|text| text.split(close.as_str()).next());
    inside.map(unescaped).collect()
}

fn unescaped(text: &str) -> String {
    let known = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#x27;", "'"), ("&amp;", "&")];
    known.into_iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}
