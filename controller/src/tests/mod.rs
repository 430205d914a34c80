//! The whole controller over real tonic, with nodes that are not real.

mod changes;
mod groups;
mod node;
mod outage;
mod sessions;
mod takeover;
mod tls;

use std::{net::Ipv4Addr, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{BindError, Config, Controller, Limits, Ready, StoreConfig, Tls};

/// Bounds every wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(40);

const TOKEN: &str = "an-admin-token-of-tests";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it happens in time")
}

/// A running controller. Dropping it stops it.
struct Running {
    grpc: String,
    http: String,
    ready: Ready,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
    /// An embedded store's folder.
    _data: Option<tempfile::TempDir>,
}

impl Running {
    fn config(id: &str, store: StoreConfig) -> Config {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Config {
            id: id.parse().unwrap(),
            grpc_listen: any,
            grpc_url: None,
            http_listen: any,
            store,
            tls: None,
            admin_token: TOKEN.into(),
            clear_leases: false,
            limits: Limits {
                lease_ttl: Duration::from_secs(2),
                election_ttl: Duration::from_secs(2),
                store_timeout: Duration::from_secs(1),
                ..Limits::default()
            },
        }
    }

    async fn embedded() -> Running {
        Running::embedded_with(|_| ()).await
    }

    async fn embedded_with(change: impl FnOnce(&mut Config)) -> Running {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("store.redb");
        let mut config = Running::config("controller-1", StoreConfig::Embedded { path });
        change(&mut config);
        let mut running = Running::start(config).await;
        running._data = Some(data);
        running
    }

    /// Starts it, and waits until it is ready.
    async fn start(config: Config) -> Running {
        let mut running = Running::begin(config).await;
        soon(running.ready.wait()).await;
        assert_eq!(running.ready.check(), Ok(()));
        running
    }

    async fn begin(config: Config) -> Running {
        let controller = Controller::bind(config).await.expect("it binds");
        let shutdown = CancellationToken::new();
        Running {
            grpc: format!("http://{}", controller.grpc_addr()),
            http: format!("http://{}", controller.http_addr()),
            ready: controller.ready(),
            task: Some(tokio::spawn(controller.run(shutdown.clone()))),
            shutdown,
            _data: None,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        let task = self.task.take().expect("it runs");
        soon(task).await.expect("it ends well");
    }

    /// GET on the operator API.
    async fn get(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get_as(path, Some(TOKEN)).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    async fn get_as(&self, path: &str, token: Option<&str>) -> (u16, String) {
        self.ask("GET", path, token, "").await
    }

    /// POST on the operator API.
    async fn post(&self, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let body = body.to_string();
        let (status, body) = self.ask("POST", path, Some(TOKEN), &body).await;
        let json = serde_json::from_str(&body);
        (
            status,
            json.unwrap_or_else(|e| panic!("{path}: {e}: {body}")),
        )
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.http.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let token = token.map(|t| format!("authorization: Bearer {t}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-length: {}\r\n{}\r\n{body}",
            body.len(),
            token.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Asks until the answer is right.
    async fn until(
        &self,
        path: &str,
        right: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        let mut last = serde_json::Value::Null;
        let asking = async {
            loop {
                every.tick().await;
                last = self.get(path).await;
                if right(&last) {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, asking).await.is_ok();
        assert!(in_time, "{path} stays {last:#}");
        last
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_start_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("store.redb");
    let base = || Running::config("c", StoreConfig::Embedded { path: path.clone() });
    let cases: Vec<(Config, Vec<&str>)> = vec![
        (
            Config {
                http_listen: taken.local_addr().unwrap(),
                ..base()
            },
            vec![&port, "HTTP", "in use"],
        ),
        (
            Config {
                grpc_listen: taken.local_addr().unwrap(),
                ..base()
            },
            vec![&port, "gRPC", "in use"],
        ),
        (
            Config {
                grpc_listen: "0.0.0.0:0".parse().unwrap(),
                ..base()
            },
            vec!["0.0.0.0:0", "certificates", "loopback"],
        ),
        (
            Config {
                admin_token: "short".into(),
                ..base()
            },
            vec!["admin token", "5 bytes", "16"],
        ),
        (
            Config {
                store: StoreConfig::Embedded {
                    path: data.path().join("no/such/folder"),
                },
                ..base()
            },
            vec!["no/such/folder"],
        ),
        (
            Config {
                store: StoreConfig::Etcd {
                    endpoints: vec!["etcd:2379".into()],
                },
                ..base()
            },
            vec!["etcd:2379", "http://"],
        ),
        (
            Config {
                tls: Some(Tls {
                    ca: b"x".to_vec(),
                    cert: b"x".to_vec(),
                    key: b"x".to_vec(),
                }),
                ..base()
            },
            vec!["certificates"],
        ),
    ];
    for (config, words) in cases {
        let told: BindError = Controller::bind(config).await.err().expect("refused");
        let told = told.to_string();
        for word in words {
            assert!(told.contains(word), "{word:?} is missing in {told:?}");
        }
    }
}
