//! A network between a program and PostgreSQL that can drop all packets, or refuse to connect.

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
        let task = tokio::spawn(serve(listener, there, weather.subscribe(), attempts.clone()));
        Ok(Self { pool: PgPool::connect_lazy_with(near), weather, attempts, task })
    }

    /// A pool that connects over it.
    pub(crate) fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
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
    weather: watch::Receiver<Weather>,
    attempts: Arc<AtomicUsize>,
) {
    while let Ok((near, _)) = listener.accept().await {
        attempts.fetch_add(1, Ordering::SeqCst);
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        let (there, weather) = (there.clone(), weather.clone());
        // Ends with either side, or when the wire is cut.
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(there).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(near_in, far_out, weather.clone()) => {}
                () = carry(far_in, near_out, weather) => {}
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
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
