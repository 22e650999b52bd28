//! Who the members are: what must be the same on all of them, their list, and its changes while the program runs.
//!
//! The configuration file is looked at every few seconds. When it has changed, `cluster.members` is taken up, and nothing
//! else: that needs a restart. A file that can't be used is logged once, and the
//! former list stays. Kubernetes replaces files by renaming, editors write them in pieces, and network file systems tell
//! nobody: so the file's content is compared, and no watch of the system's is asked for.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Running;
use crate::{
    config::{self, Cluster, Config, Storage},
    ownership::{Leases, SharedSettings, View as _},
    placement::MemberId,
    storage,
};

/// The hash key, and where everything is stored, by the keys of the configuration. Not among them: endpoints, regions and
/// credentials, since one store may be reached in several ways.
pub(super) fn shared_settings(cluster: &Cluster, stored: &Storage) -> SharedSettings {
    let settings = SharedSettings::new().with("cluster.hashKey", cluster.hash_key.as_bytes());
    storage::identity(stored)
        .into_iter()
        .fold(settings, |settings, (key, value)| {
            settings.with(&key, value.as_bytes())
        })
}

/// Where others reach a listed member: its host, and the port that all have.
pub(super) fn mesh_address(cluster: &Cluster, member: &MemberId) -> String {
    match member.host() {
        v6 if v6.contains(':') => format!("[{v6}]:{}", cluster.mesh_port),
        host => format!("{host}:{}", cluster.mesh_port),
    }
}

/// Listed members with their addresses.
pub(super) fn addressed(cluster: &Cluster, members: &[MemberId]) -> Vec<(MemberId, String)> {
    let with_address = |member: &MemberId| (member.clone(), mesh_address(cluster, member));
    members.iter().map(with_address).collect()
}

/// Takes up changes of the list in the file that `config` was read from, until `running` ends.
pub(super) fn watch(config: &Config, running: &Running, every: Duration) {
    let (Some(path), Some(cluster), Some(leases)) = (&config.source, &config.cluster, running.leases())
    else {
        return;
    };
    let Some(members) = cluster.members.clone() else {
        return;
    };
    let mut list = List {
        path: path.clone(),
        read: None,
        members,
        fault: None,
        leases: leases.clone(),
    };
    let ended = running.life().token();
    running.life().spawn("list of members", async move {
        while ended
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            list.look();
        }
    });
}

/// The list as it was last read.
struct List {
    path: PathBuf,
    read: Option<String>,
    members: Vec<MemberId>,
    // The last one that was logged.
    fault: Option<String>,
    leases: Arc<Leases>,
}

impl List {
    /// A small file of this machine: reading it is no wait worth a thread.
    fn look(&mut self) {
        match self.changed() {
            Ok(None) => {}
            Ok(Some(cluster)) => self.take(&cluster),
            Err(fault) => {
                if self.fault.as_ref() != Some(&fault) {
                    tracing::error!(
                        fault,
                        "the changed configuration can't be used, the list of members stays as it was"
                    );
                    self.fault = Some(fault);
                }
            }
        }
    }

    /// What the file says now, if that is something else.
    fn changed(&mut self) -> Result<Option<Cluster>, String> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        if self.read.as_ref() == Some(&text) {
            return Ok(None);
        }
        let parsed = config::parse(&self.path, &text).map_err(|errors| errors.to_string());
        self.read = Some(text);
        let Some(cluster) = parsed?.cluster else {
            return Err("there is no cluster any more: restart this member".to_owned());
        };
        match &cluster.members {
            Some(members) if !members.contains(self.leases.me()) => {
                Err("this member isn't in cluster.members any more: end it".to_owned())
            }
            Some(_) => Ok(Some(cluster)),
            None => Err("cluster.members is gone: dynamic membership begins with a restart".to_owned()),
        }
    }

    fn take(&mut self, cluster: &Cluster) {
        self.fault = None;
        let members = cluster.members.clone().unwrap_or_default();
        if members == self.members {
            return;
        }
        tracing::info!(?members, "the list of members has changed");
        self.leases.list(addressed(cluster, &members));
        self.members = members;
    }
}
