use super::*;
use crate::bench::report::{Named, Unit};

fn order(save: bool) -> Order {
    Order { kind: Kind::Machine, subject: "s".to_owned(), options: Value::Null, save, busy: 0 }
}

async fn until(jobs: &Jobs, id: &str, state: JobState) -> Job {
    for _ in 0..500 {
        let job = jobs.get(id).unwrap().unwrap();
        if job.state == state {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to be {state:?}");
}

async fn one_figure(mut recorder: Recorder) -> Worked {
    recorder.plan(1);
    recorder.begin("a");
    recorder.found(Named::new("a", "a", Unit::Seconds).measured([1.0].into_iter().collect()));
    (recorder, Ok(()))
}

#[tokio::test]
async fn one_at_a_time_and_what_is_stopped_keeps_what_it_has() {
    let bus = Bus::default();
    let (jobs, mut heard) = (Jobs::new(None, bus.clone()), bus.listen());
    let work = async |recorder: Recorder| {
        let (recorder, _) = one_figure(recorder).await;
        recorder.stopper().asked().await;
        (recorder, Ok(()))
    };
    let job = jobs.start(order(false), work).unwrap().unwrap();
    assert!(jobs.start(order(false), one_figure).unwrap().is_none() && jobs.is_running());
    assert!(jobs.start(order(true), one_figure).is_err(), "there is no store");
    let Some(Change::Benchmark { id, state: JobState::Running, .. }) = heard.next().await else {
        panic!("nothing was told")
    };
    assert_eq!(id, job.id);
    assert_eq!(jobs.remove(&job.id).unwrap().unwrap().id, job.id);
    let ended = until(&jobs, &job.id, JobState::Cancelled).await;
    assert!(ended.report.unwrap().figure("a").is_some());
    assert_eq!(jobs.list().unwrap().len(), 1);
    assert!(jobs.remove(&job.id).unwrap().is_some() && jobs.remove(&job.id).unwrap().is_none());
}

#[tokio::test]
async fn the_end_of_a_server_ends_its_benchmark_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("b.sqlite"));
    let jobs = Jobs::new(Some(store.clone()), Bus::default());
    let work = async |recorder: Recorder| {
        let (recorder, _) = one_figure(recorder).await;
        recorder.stopper().asked().await;
        (recorder, Ok(()))
    };
    let job = jobs.start(order(true), work).unwrap().unwrap();
    jobs.request_came();
    jobs.shutdown(Duration::from_secs(20)).await;
    let (_, report) = store.get(&job.id).unwrap().unwrap();
    assert!(report.interrupted && report.figure("a").is_some());
    assert!(report.notes.iter().any(|note| note.contains("came meanwhile: 1")), "{report:?}");
    let refused = jobs.start(order(false), one_figure).unwrap_err();
    assert_eq!(refused.kind, error::Kind::ShuttingDown);
}

#[tokio::test]
async fn what_was_found_before_a_failure_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = Jobs::new(Some(Store::at(folder.path().join("b.sqlite"))), Bus::default());
    let failing = async |recorder: Recorder| {
        let (recorder, _) = one_figure(recorder).await;
        (recorder, Err(Error::new(error::Kind::Internal, "told to fail")))
    };
    let job = jobs.start(order(true), failing).unwrap().unwrap();
    let ended = until(&jobs, &job.id, JobState::Failed).await;
    assert!(ended.saved && ended.report.unwrap().notes[0].contains("told to fail"));
}

#[tokio::test]
async fn what_is_saved_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("b.sqlite"));
    let jobs = Jobs::new(Some(store.clone()), Bus::default());
    let job = jobs.start(order(true), one_figure).unwrap().unwrap();
    assert!(until(&jobs, &job.id, JobState::Finished).await.saved);
    let others = Jobs::new(Some(store), Bus::default());
    let listed = others.list().unwrap();
    assert_eq!((listed.len(), listed[0].state, &listed[0].report), (1, JobState::Finished, &None));
    assert!(others.get(&job.id).unwrap().unwrap().report.is_some());
    let failing =
        async |recorder: Recorder| (recorder, Err(Error::new(error::Kind::Internal, "told to fail")));
    let failed = others.start(order(true), failing).unwrap().unwrap();
    let failed = until(&others, &failed.id, JobState::Failed).await;
    assert_eq!((failed.error.as_deref(), failed.saved), (Some("told to fail"), false));
    let panicking = async |recorder: Recorder| -> Worked {
        drop(recorder);
        panic!("told to panic")
    };
    let broken = others.start(order(false), panicking).unwrap().unwrap();
    assert!(until(&others, &broken.id, JobState::Failed).await.error.unwrap().contains("bug"));
}
