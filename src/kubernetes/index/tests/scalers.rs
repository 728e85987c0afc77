//! The scalers of a workload, in whatever order they and the workload appear.

use super::*;
use crate::ownership::{OtherScaler, Pause};
use crate::workload::WorkloadKind;

fn scaler(target: &str, name: &str) -> Object {
    let target = (WorkloadKind::Deployment, ObjectName::new("a", target));
    let scaler = OtherScaler::ScaledObject { name: name.to_owned(), pause: Pause::NotPaused };
    Object::Scaler(ScalerObject { target, scaler })
}

fn names(snapshot: &Snapshots) -> Vec<String> {
    snapshot.borrow().other_scalers.iter().map(OtherScaler::reference).collect()
}

#[test]
fn a_workload_has_the_scalers_that_target_it_whichever_comes_first() {
    let mut index = index(None);
    put(&mut index, "early", scaler("web", "early"));
    let web = with_web(&mut index);
    let other = follow(&mut index, "other", ServicePort::Number(80));
    assert_eq!(names(&web), ["ScaledObject early"]);
    put(&mut index, "late", scaler("web", "late"));
    assert_eq!(names(&web), ["ScaledObject early", "ScaledObject late"]);
    put(&mut index, "late", scaler("other", "late"));
    assert_eq!((names(&web).len(), names(&other).len()), (1, 1), "it has another target now");
    delete(&mut index, ObjectKind::ScaledObject, "early");
    list(&mut index, &scope(ObjectKind::ScaledObject, None), []);
    assert_eq!((names(&web).len(), names(&other).len()), (0, 0));
}
