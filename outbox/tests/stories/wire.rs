//! A network between a program and PostgreSQL that can drop all packets, or refuse to connect, or forget connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use outbox::BoxError;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing comes through, and nobody is told.
    Silent,
    /// Connections end at once.
    Cut,
}

pub(crate) struct Wire {
    pool: PgPool,
    weather: watch::Sender<Weather>,
    attempts: Arc<AtomicUsize>,
    lost: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to where `pool` connects to.
    pub(crate) async fn to(pool: &PgPool) -> Result<Self, BoxError> {
        let there = pool.connect_options();
        let there = (there.get_host().to_owned(), there.get_port());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let near = (*pool.connect_options()).clone().host("127.0.0.1").port(listener.local_addr()?.port());
        let (weather, attempts) = (watch::Sender::new(Weather::Fair), Arc::<AtomicUsize>::default());
        let lost = watch::Sender::new(0);
        let sky = (weather.subscribe(), lost.subscribe());
        let task = tokio::spawn(serve(listener, there, sky, attempts.clone()));
        Ok(Self { pool: PgPool::connect_lazy_with(near), weather, attempts, lost, task })
    }

    /// A pool that connects over it.
    pub(crate) fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// The connections there are say nothing any more, and neither side is told; new ones work. As behind a firewall that has
    /// forgotten them.
    pub(crate) fn lose_connections(&self) {
        self.lost.send_replace(self.attempts());
    }

    /// How often somebody has connected.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.weather.send_replace(Weather::Cut);
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    there: (String, u16),
    (weather, lost): (watch::Receiver<Weather>, watch::Receiver<usize>),
    attempts: Arc<AtomicUsize>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let nth = attempts.fetch_add(1, Ordering::SeqCst);
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        let (there, mut weather, lost) = (there.clone(), weather.clone(), lost.clone());
        // Ends with either side, or when the wire is cut.
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(there).await else { return };
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                (near.into_split(), far.into_split());
            let open = tokio::select! {
                () = carry(&mut near_in, &mut far_out, weather.clone()) => false,
                () = carry(&mut far_in, &mut near_out, weather.clone()) => false,
                () = forgotten(lost, nth) => true,
            };
            if open {
                let _ = weather.wait_for(|weather| *weather == Weather::Cut).await;
            }
        });
    }
}

/// Ends when the `nth` connection is lost.
async fn forgotten(mut lost: watch::Receiver<usize>, nth: usize) {
    // Whoever could lose it is gone with the wire.
    let _ = lost.wait_for(|lost| *lost > nth).await;
}

async fn carry(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut bytes = vec![0; 16_384];
    loop {
        let mut cut = weather.clone();
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = cut.wait_for(|weather| *weather == Weather::Cut) => 0,
        };
        let fair = weather.wait_for(|weather| *weather != Weather::Silent).await;
        let open = fair.is_ok_and(|weather| *weather == Weather::Fair);
        if read == 0 || !open || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
