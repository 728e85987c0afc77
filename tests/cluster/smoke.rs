//! The test cluster itself has a ready node.

use crate::fixtures::Kubectl;

#[tokio::test]
async fn the_node_is_ready() {
    let path = "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(Kubectl::run(&["get", "nodes", "-o", path]), "True");
}
