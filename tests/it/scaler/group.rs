//! An emulated Auto Scaling group, over HTTP: none to many and back, and who goes.

use super::hearts::Hearts;
use super::stand::{LIMIT, Stand, wait_for_ticks, wait_until_leading};
use anyhow::{Result, ensure};
use penstock_tests::{
    aws::{Emulator, Kind, REGION},
    http, wait,
};
use std::{sync::Arc, time::Duration};

const GROUP: &str = "penstock-importers";

/// An emulator with a group of at most five instances.
struct Group {
    emulator: Emulator,
}

impl Group {
    async fn start() -> Result<Self> {
        let emulator = tokio::task::spawn_blocking(|| Emulator::start(Kind::AutoScaling)).await??;
        let group = Self { emulator };
        group
            .call("CreateLaunchConfiguration&LaunchConfigurationName=lc&ImageId=ami-12c6146b&InstanceType=t3.nano")
            .await?;
        group
            .call(&format!(
                "CreateAutoScalingGroup&AutoScalingGroupName={GROUP}&LaunchConfigurationName=lc&MinSize=0&MaxSize=5\
                 &AvailabilityZones.member.1={REGION}a"
            ))
            .await?;
        Ok(group)
    }

    async fn call(&self, action: &str) -> Result<String> {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=123456789012/20260101/{REGION}/autoscaling/aws4_request, SignedHeaders=host, Signature=x"
        );
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", scope.as_str())];
        let body = format!("Version=2011-01-01&Action={action}");
        let answer = http::request("POST", &format!("{}/", self.emulator.endpoint()), &headers, &body).await?;
        ensure!(answer.status == 200, "{action}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Returns the desired capacity and the instances.
    async fn look(&self) -> Result<(u32, Vec<String>)> {
        let body = self.call(&format!("DescribeAutoScalingGroups&AutoScalingGroupNames.member.1={GROUP}")).await?;
        let texts = |tag: &str| -> Vec<String> {
            let open = format!("<{tag}>");
            body.split(&open).skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
        };
        let desired = texts("DesiredCapacity").first().and_then(|text| text.parse().ok()).unwrap_or(99);
        Ok((desired, texts("InstanceId")))
    }

    async fn protect(&self, instance: &str, protected: bool) -> Result<()> {
        let action = format!(
            "SetInstanceProtection&AutoScalingGroupName={GROUP}&InstanceIds.member.1={instance}&ProtectedFromScaleIn={protected}"
        );
        self.call(&action).await.map(|_| ())
    }

    async fn wait_for(&self, n: usize, limit: Duration) -> Result<Vec<String>> {
        wait::until(&format!("{n} instances"), limit, || async {
            let (desired, instances) = self.look().await?;
            ensure!(desired <= 5, "the desired capacity is {desired}");
            Ok((instances.len() == n && desired as usize == n).then_some(instances))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn group_grows_and_only_idle_unprotected_instances_go() -> Result<()> {
    let stand = Arc::new(Stand::new("max = 4\nbacklog_per_worker = 50").await?);
    let group = Arc::new(Group::start().await?);
    let workers = format!("[pool.workers]\nkind = \"asg\"\ngroup = \"{GROUP}\"\n");
    let scaler = || stand.scaler("run").env("AWS_ENDPOINT_URL_AUTO_SCALING", group.emulator.endpoint()).start();

    stand.configure_with("max = 4\nbacklog_per_worker = 50", &workers)?;
    let first = scaler()?;
    wait_until_leading(&first, LIMIT).await?;
    assert_eq!(group.look().await?.0, 0);
    let bodies: Vec<String> = (0..200).map(|n| format!("message {n}")).collect();
    stand.pipeline.send_all(&bodies).await?;
    let instances = group.wait_for(4, LIMIT).await?;
    let listed = Arc::clone(&group);
    let hearts = Hearts::start(&stand, move || {
        let group = Arc::clone(&listed);
        async move { Ok(group.look().await?.1) }
    });

    // One is busy with the only message left, one is protected; two may go.
    stand.pipeline.purge().await?;
    stand.pipeline.send("the last one").await?;
    for instance in &instances[1..] {
        hearts.set(instance, "idle");
    }
    group.protect(&instances[1], true).await?;
    wait_for_ticks(&first).await?;
    first.terminate(LIMIT).await?;
    assert_eq!(group.look().await?.0, 4, "a stopped scaler leaves the instances alone");

    // The maximum applies at once, so there is no window to wait for.
    stand.configure_with("max = 1\nbacklog_per_worker = 50", &workers)?;
    let second = scaler()?;
    let left = group.wait_for(2, LIMIT).await?;
    assert_eq!(left, instances[..2], "the busy and the protected one stay");
    wait_for_ticks(&second).await?;
    assert_eq!(group.look().await?.1, left);
    let history = stand.history(&[]).await?;
    let kept = |decision: &serde_json::Value| decision["outcome"].as_str().is_some_and(|text| text.contains("stay"));
    assert!(history.iter().any(kept), "the history says who stayed");

    // And when all is done, nobody is left.
    stand.pipeline.purge().await?;
    hearts.set(&instances[0], "idle");
    group.protect(&instances[1], false).await?;
    group.wait_for(0, LIMIT).await?;
    second.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_set_by_hand_is_reported_in_the_history() -> Result<()> {
    let stand = Arc::new(Stand::new("max = 4\nbacklog_per_worker = 50").await?);
    let group = Arc::new(Group::start().await?);
    stand.configure_with(
        "max = 4\nbacklog_per_worker = 50",
        &format!("[pool.workers]\nkind = \"asg\"\ngroup = \"{GROUP}\"\n"),
    )?;
    let program = stand.scaler("run").env("AWS_ENDPOINT_URL_AUTO_SCALING", group.emulator.endpoint());
    let scaler = program.expect_line("was changed externally").start()?;
    wait_until_leading(&scaler, LIMIT).await?;
    scaler.wait_for_line("\"pool.desired\":0", LIMIT).await?;
    group.call(&format!("SetDesiredCapacity&AutoScalingGroupName={GROUP}&DesiredCapacity=3")).await?;
    scaler.wait_for_line("the group's desired capacity was changed externally", LIMIT).await?;
    wait_for_ticks(&scaler).await?;
    assert_eq!(group.look().await?.0, 3, "and it is not fought");
    scaler.terminate(LIMIT).await?;
    let history = stand.history(&[]).await?;
    let noted =
        |decision: &serde_json::Value| decision["outcome"].as_str().is_some_and(|text| text.contains("from 0 to 3"));
    assert!(history.iter().any(noted));
    Ok(())
}
