//! The AWS stand-in as a child process, and its control interface: what was really called, and faults to come.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use serde_json::{Value, json};
use sfdata_common::{Timestamp, image::Image};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A running stand-in; it ends with the test, also when that is killed, because its standard input closes.
pub struct Standin {
    child: Child,
    address: String,
}

/// An LA's account at the stand-in.
#[derive(Debug, Clone)]
pub struct Account {
    /// 12 digits.
    pub id: String,
    /// ECS cluster.
    pub cluster: String,
    /// Aurora cluster.
    pub database: String,
    /// Buckets by role.
    pub buckets: Vec<(String, String)>,
    /// Images in the core account's registry, by tag.
    pub images: BTreeMap<String, Image>,
    /// Credentials file of the AWS tools.
    pub credentials: PathBuf,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Python of the sandbox's virtual environment, which `tests/run` makes.
pub fn python() -> Result<PathBuf> {
    let python = option_env_at_run_time("SFDATA_STANDIN_PYTHON")
        .map_or_else(|| root().join("deploy/sandbox/.venv/bin/python"), PathBuf::from);
    if !python.exists() {
        bail!("{} is missing: run tests/run, which makes the virtual environment", python.display());
    }
    Ok(python)
}

fn write_credentials(path: &Path, said: &Value) -> Result<()> {
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    let mut file = std::fs::File::create(path)?;
    writeln!(file, "[default]")?;
    writeln!(file, "aws_access_key_id = {}", text("access_key_id"))?;
    writeln!(file, "aws_secret_access_key = {}", text("secret_access_key"))?;
    if let Some(token) = said["session_token"].as_str() {
        writeln!(file, "aws_session_token = {token}")?;
    }
    Ok(())
}

impl Standin {
    /// Start it in `folder`. Needs the sandbox's virtual environment.
    pub async fn start(folder: &Path) -> Result<Self> {
        let python = python()?;
        let ready = folder.join("standin.json");
        let log = std::fs::File::create(folder.join("standin.log"))?;
        let child = Command::new(&python)
            .args(["-m", "standin", "--port", "0", "--until-stdin-closes", "--task-start-seconds", "0.2"])
            .args(["--task-stop-seconds", "0.1", "--ready-file"])
            .arg(&ready)
            .env("PYTHONPATH", root().join("deploy/sandbox"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting the stand-in")?;
        let mut standin = Self { child, address: String::new() };
        let began = Instant::now();
        while !ready.exists() {
            if let Some(status) = standin.child.try_wait()? {
                bail!("the stand-in ended with {status}; see {}", folder.join("standin.log").display());
            }
            if began.elapsed() > Duration::from_secs(60) {
                bail!("the stand-in is not ready after a minute; see {}", folder.join("standin.log").display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let text = std::fs::read_to_string(&ready)?;
        let said: Value = serde_json::from_str(&text)?;
        standin.address = format!("127.0.0.1:{}", said["port"]);
        Ok(standin)
    }

    /// The endpoint for the AWS SDK.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Build an LA's estate in its account.
    pub async fn seed(&self, folder: &Path, la: &str, account: &str) -> Result<Account> {
        self.made(folder, account, json!({"account": account, "la": la})).await
    }

    /// Add a plain RDS instance to an LA's estate.
    pub async fn seed_instance(&self, la: &str, account: &str, name: &str) -> Result<()> {
        let body = json!({"account": account, "la": la, "instance": name});
        self.ask("POST", "/standin/seed", Some(body)).await.map(|_| ())
    }

    /// Have an LA's data store tell a queue what arrives in it; the queue's URL.
    pub async fn seed_arrivals(&self, la: &str, account: &str) -> Result<String> {
        let said =
            self.ask("POST", "/standin/seed", Some(json!({"account": account, "la": la, "arrivals": true}))).await?;
        Ok(format!("{}/{account}/{}", self.url(), said["arrivals"].as_str().context("no queue")?))
    }

    /// Send a message to a queue, as anybody who may.
    pub async fn send(&self, account: &str, url: &str, body: &str) -> Result<()> {
        let message = json!({"QueueUrl": url, "MessageBody": body});
        self.call(account, "sqs", "AmazonSQS.SendMessage", message).await.map(|_| ())
    }

    /// How many messages a queue has, whether they are hidden or not.
    pub async fn messages(&self, account: &str, url: &str) -> Result<u64> {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let asked = json!({"QueueUrl": url, "AttributeNames": names});
        let said = self.call(account, "sqs", "AmazonSQS.GetQueueAttributes", asked).await?;
        names
            .iter()
            .map(|name| said["Attributes"][*name].as_str().context("no count")?.parse::<u64>().context("a number"))
            .sum()
    }

    /// Build in an account an estate that somebody else's templates made: see `deploy/sandbox/standin/foreign.py`.
    pub async fn seed_foreign(&self, folder: &Path, account: &str) -> Result<Account> {
        self.made(folder, account, json!({"account": account})).await
    }

    async fn made(&self, folder: &Path, account: &str, what: Value) -> Result<Account> {
        let said = self.ask("POST", "/standin/seed", Some(what)).await?;
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let credentials = folder.join(format!("{}.credentials", text("cluster")));
        write_credentials(&credentials, &said)?;
        let buckets = said["buckets"].as_object().into_iter().flatten();
        let images = said["images"].as_object().into_iter().flatten();
        let image = |(tag, image): (&String, &Value)| Ok((tag.clone(), image.as_str().unwrap_or_default().parse()?));
        Ok(Account {
            id: account.to_owned(),
            cluster: text("cluster"),
            database: text("db_cluster"),
            buckets: buckets.map(|(role, name)| (role.clone(), name.as_str().unwrap_or_default().to_owned())).collect(),
            images: images.map(image).collect::<Result<_>>()?,
            credentials,
        })
    }

    /// Make a topic of SNS in that account.
    pub async fn topic(&self, account: &str, name: &str) -> Result<()> {
        let headers = format!(
            "x-moto-account-id: {account}\r\nContent-Type: application/x-www-form-urlencoded\r\n{}",
            unsigned("sns")
        );
        let form = format!("Action=CreateTopic&Version=2010-03-31&Name={name}");
        let (head, body) = self.exchange("POST", "/", &headers, &form).await?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("CreateTopic {name}: {head} {body}");
        }
        Ok(())
    }

    /// Have AWS check every signature from now on, as the true one does.
    pub async fn check_signatures(&self) -> Result<()> {
        let (head, body) = self.exchange("POST", "/moto-api/reset-auth", "", "0").await?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("reset-auth: {head} {body}");
        }
        Ok(())
    }

    /// A credentials file, in `folder`, of a role of that account, which is made if it is not there; with `anew` it is deleted
    /// before and so has another unique id.
    pub async fn role(&self, folder: &Path, account: &str, role: &str, anew: bool) -> Result<PathBuf> {
        let asked = json!({"account": account, "role": role, "anew": anew});
        let said = self.ask("POST", "/standin/role", Some(asked)).await?;
        let credentials = folder.join(format!("{account}-{role}.credentials"));
        write_credentials(&credentials, &said)?;
        Ok(credentials)
    }

    /// Calls that reached AWS in that account, newest last.
    pub async fn calls(&self, account: &str, service: &str, action: &str) -> Result<Vec<Value>> {
        let path = format!("/standin/calls?account={account}&service={service}&action={action}");
        let mut said = self.ask("GET", &path, None).await?;
        match said["calls"].take() {
            Value::Array(calls) => Ok(calls),
            other => bail!("no list of calls: {other}"),
        }
    }

    /// How many calls came into that account, those among them that were answered by a fault.
    pub async fn tried(&self, account: &str, service: &str, action: &str) -> Result<usize> {
        let path = format!("/standin/calls?account={account}&service={service}&action={action}&faults=1");
        self.ask("GET", &path, None).await?["calls"].as_array().map(Vec::len).context("no list of calls")
    }

    /// How many calls reached AWS in that account.
    pub async fn count(&self, account: &str) -> Result<u64> {
        let said = self.ask("GET", &format!("/standin/calls?account={account}&count=1"), None).await?;
        said["count"].as_u64().context("no count")
    }

    /// What was called in that account since its making, as `service:Action`.
    pub async fn actions(&self, account: &str) -> Result<BTreeSet<String>> {
        let said = self.ask("GET", &format!("/standin/calls?account={account}&count=1"), None).await?;
        Ok(said["actions"].as_object().into_iter().flatten().map(|(action, _)| action.clone()).collect())
    }

    /// Deployments forced in that account: what `ecs restart` leaves behind at AWS.
    pub async fn restarts(&self, account: &str) -> Result<usize> {
        let calls = self.calls(account, "ecs", "UpdateService").await?;
        Ok(calls.iter().filter(|call| call["params"]["forceNewDeployment"] == true).count())
    }

    /// Break calls to come: `{"service": "ecs", "action": "*", "kind": "throttle", "times": 3}`.
    pub async fn fault(&self, fault: Value) -> Result<()> {
        self.ask("POST", "/standin/faults", Some(fault)).await.map(|_| ())
    }

    /// Break nothing any more.
    pub async fn heal(&self) -> Result<()> {
        self.ask("DELETE", "/standin/faults", None).await.map(|_| ())
    }

    /// How new tasks of a service behave: `normal`, `never-starts`, `crashes`, `cannot-pull`, `no-secret`, `no-spot`.
    pub async fn tasks(&self, account: &Account, service: &str, behaviour: &str) -> Result<()> {
        self.tasks_of(account, service, "", behaviour).await
    }

    /// The same, of those tasks alone that run an image with this in its name.
    pub async fn tasks_of(&self, account: &Account, service: &str, image: &str, behaviour: &str) -> Result<()> {
        let body = json!({"account": account.id, "cluster": account.cluster, "service": service,
            "image": image, "behaviour": behaviour});
        self.ask("POST", "/standin/tasks", Some(body)).await.map(|_| ())
    }

    /// Let the newest running task of a service write lines to its log; the task's id.
    pub async fn write(&self, account: &Account, service: &str, lines: &[&str]) -> Result<String> {
        let body = json!({"account": account.id, "service": service, "lines": lines});
        let said = self.ask("POST", "/standin/logs", Some(body)).await?;
        said["task"].as_str().map(str::to_owned).context("no task")
    }

    /// How tasks of a family behave that belong to no service: `{"exit_code": 3, "run_seconds": 60}`.
    pub async fn runs(&self, account: &Account, family: &str, mut how: Value) -> Result<()> {
        how["family"] = json!(family);
        how["behaviour"] = how["behaviour"].as_str().unwrap_or("normal").into();
        self.behave(account, how).await
    }

    /// How new tasks behave: `{"service": "daemon", "behaviour": "crashes", "run_seconds": 60}`.
    pub async fn behave(&self, account: &Account, mut how: Value) -> Result<()> {
        how["account"] = json!(account.id);
        how["cluster"] = json!(account.cluster);
        self.ask("POST", "/standin/tasks", Some(how)).await.map(|_| ())
    }

    /// Forget the client tokens of that account: the same one starts another task from then on.
    pub async fn forget_tokens(&self, account: &str) -> Result<()> {
        self.ask("DELETE", &format!("/standin/tokens?account={account}"), None).await.map(|_| ())
    }

    /// Every task of that account that is still known: `id`, `group`, `status`, `definition`, `address`, `provider` and more.
    pub async fn all_tasks(&self, account: &str) -> Result<Vec<Value>> {
        let mut said = self.ask("GET", &format!("/standin/tasks?account={account}"), None).await?;
        match said["tasks"].take() {
            Value::Array(tasks) => Ok(tasks),
            other => bail!("no list of tasks: {other}"),
        }
    }

    /// Take the stand-in away.
    pub fn kill(&mut self) {
        // By its standard input: of a nursery's stand-in the child is what waits for it, and ends after it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }

    /// A call of AWS by somebody else in that account, of a service by its signing name and its target:
    /// `secretsmanager.CreateSecret`.
    pub async fn call(&self, account: &str, service: &str, target: &str, body: Value) -> Result<Value> {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\nx-moto-account-id: {account}\r\n{}",
            unsigned(service)
        );
        self.json("POST", "/", &headers, &body.to_string()).await
    }

    /// What somebody with an account's own keys asks of S3: `PUT`, `bucket?policy`. The body of the answer; an error unless
    /// S3 does it.
    pub async fn s3(&self, account: &str, method: &str, path: &str, body: &str) -> Result<String> {
        // Who names an account needs no signature.
        let headers = format!("x-moto-account-id: {account}\r\n");
        let (head, body) = self.exchange(method, &format!("/{path}"), &headers, body).await?;
        if !head.starts_with("HTTP/1.1 2") {
            bail!("{method} {path}: {head} {body}");
        }
        Ok(body)
    }

    /// Have CloudWatch know a value of a metric of that account, as of this time.
    pub async fn measured(
        &self,
        account: &str,
        (namespace, name): (&str, &str),
        dimensions: &[(&str, &str)],
        at: Timestamp,
        value: f64,
    ) -> Result<()> {
        let dimensions: Vec<_> = dimensions.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
        let datum = json!({"MetricName": name, "Dimensions": dimensions, "Timestamp": at.as_second(), "Value": value});
        let body = json!({"Namespace": namespace, "MetricData": [datum]});
        let target = "GraniteServiceVersion20100801.PutMetricData";
        self.call(account, "monitoring", target, body).await.map(|_| ())
    }

    /// Have S3 count the requests to a bucket of that account, or to what begins with a prefix, under this name.
    pub async fn count_requests(&self, account: &str, bucket: &str, name: &str, prefix: &str) -> Result<()> {
        let filter =
            if prefix.is_empty() { String::new() } else { format!("<Filter><Prefix>{prefix}</Prefix></Filter>") };
        let body = format!("<MetricsConfiguration><Id>{name}</Id>{filter}</MetricsConfiguration>");
        self.s3(account, "PUT", &format!("{bucket}?metrics&id={name}"), &body).await.map(|_| ())
    }

    /// What Cost Explorer answers to the next question of that account that was not asked before.
    pub async fn bill(&self, account: &str, answer: Value) -> Result<()> {
        let body = json!({"account_id": account, "results": [answer]}).to_string();
        let path = "/moto-api/static/ce/cost-and-usage-results";
        let (head, body) = self.exchange("POST", path, "Content-Type: application/json\r\n", &body).await?;
        if !head.starts_with("HTTP/1.1 201") {
            bail!("POST {path}: {head} {body}");
        }
        Ok(())
    }

    /// Put an object into a bucket of that account; its key is URL-encoded.
    pub async fn put(&self, account: &str, bucket: &str, key: &str, body: &str) -> Result<()> {
        let headers = format!("x-moto-account-id: {account}\r\n{}", unsigned("s3"));
        let (head, body) = self.exchange("PUT", &format!("/{bucket}/{key}"), &headers, body).await?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("PUT {bucket}/{key}: {head} {body}");
        }
        Ok(())
    }

    /// Have a bucket's policy that S3 took once and would not take now.
    pub async fn keep_policy(&self, account: &str, bucket: &str, policy: &Value) -> Result<()> {
        let kept = json!({"account": account, "bucket": bucket, "policy": policy});
        self.ask("POST", "/standin/policy", Some(kept)).await.map(|_| ())
    }

    /// What whoever has a presigned URL asks by it: the status, and the body of the answer.
    pub async fn presigned(&self, method: &str, url: &str, body: &str) -> Result<(String, String)> {
        let path = url.strip_prefix(&self.url()).with_context(|| format!("{url} is not of the stand-in"))?;
        let (head, body) = self.exchange(method, path, "", body).await?;
        Ok((head.split_whitespace().nth(1).unwrap_or_default().to_owned(), body))
    }

    /// Make a bucket that S3 may write access logs to.
    pub async fn make_log_bucket(&self, account: &str, bucket: &str) -> Result<()> {
        let here = "<CreateBucketConfiguration><LocationConstraint>eu-west-2</LocationConstraint>\
                    </CreateBucketConfiguration>";
        self.s3(account, "PUT", bucket, here).await?;
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Sid": "Logs", "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
            "Resource": format!("arn:aws:s3:::{bucket}/*")}]});
        self.s3(account, "PUT", &format!("{bucket}?policy"), &policy.to_string()).await.map(|_| ())
    }

    /// How often a bucket of that account was changed, by whom ever.
    pub async fn bucket_changes(&self, account: &str) -> Result<u64> {
        let said = self.ask("GET", &format!("/standin/calls?account={account}&service=s3&count=1"), None).await?;
        let changes =
            |name: &str| ["Put", "Create", "Delete"].iter().any(|verb| name.starts_with(&format!("s3:{verb}")));
        let counts = said["actions"].as_object().into_iter().flatten();
        Ok(counts.filter(|(name, _)| changes(name)).filter_map(|(_, count)| count.as_u64()).sum())
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.json(method, path, "Content-Type: application/json\r\n", &body).await
    }

    async fn json(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<Value> {
        let (head, body) = self.exchange(method, path, headers, body).await?;
        if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
            bail!("{method} {path}: {head} {body}");
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// Head and body of an answer.
    async fn exchange(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        Ok((head.to_owned(), body.to_owned()))
    }
}

/// What says which service is meant. The stand-in checks no signature.
fn unsigned(service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-2/{service}/aws4_request, SignedHeaders=host, \
         Signature=x\r\n"
    )
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration file")]
fn option_env_at_run_time(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ready to call the stand-in at `url` past the product, with these credentials.
#[expect(deprecated, reason = "the new name is in a crate that nothing else here needs")]
pub async fn sdk(url: &str, credentials: &Path) -> SdkConfig {
    use aws_config::profile::{
        ProfileFileCredentialsProvider,
        profile_file::{ProfileFileKind, ProfileFiles},
    };
    let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, credentials).build();
    let provider = ProfileFileCredentialsProvider::builder().profile_files(files).profile_name("default").build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-2"))
        .endpoint_url(url)
        .credentials_provider(provider)
        .load()
        .await
}
