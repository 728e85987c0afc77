//! The commands of the documentation, as a newcomer types them one after the other: in this cluster, with its image of agimo and its
//! sample application in place of the documented ones.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::fixtures::Namespace;
use crate::support::documentation::commands;
use crate::support::eventually;

/// Commands wait here for what a person would wait for, before typing the next one.
const PREAMBLE: &str = r#"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
curl() { command curl --silent --show-error --retry 30 --retry-connrefused --retry-delay 1 "$@"; }
helm() {
    if [ "$1" = repo ]; then command helm "$@" || { sleep 2; command helm "$@"; }; else command helm "$@"; fi
}
"#;

/// A copy of what the commands read of the clone.
struct Clone {
    folder: TempDir,
    /// The namespace in place of `shop`.
    shop: String,
}

// === impl Clone ===

impl Clone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["charts", "docs"] {
            let from = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
            let copied =
                Command::new("cp").args(["--recursive", &from]).arg(folder.path()).status();
            assert!(copied.unwrap().success());
        }
        let clone = Self { folder, shop: "shop".to_owned() };
        clone.replace("agimo.yaml", "registry.example.com/agimo:0.1.0", "agimo.test/agimo:dev");
        clone.replace("example.yaml", "nginx:alpine", "agimo.test/sample:1");
        clone.replace("example.yaml", "containerPort: 80\n", "containerPort: 8080\n");
        clone
    }

    fn replace(&self, manifest: &str, from: &str, to: &str) {
        let file = self.folder.path().join("docs/manifests").join(manifest);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from} in {manifest}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }

    /// Runs commands one after the other until one fails; returns the output of all of them.
    async fn run(&self, commands: &str) -> String {
        let image = "image.repository=agimo.test/agimo,image.tag=dev";
        let commands = commands.replace("image.repository=registry.example.com/agimo", image);
        let commands =
            commands.replace("--namespace shop ", &format!("--namespace {} ", self.shop));
        let agimo = Path::new(env!("CARGO_BIN_EXE_agimo")).parent().unwrap();
        let path = format!("{}:{}", agimo.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euxo", "pipefail", "-c", &format!("{PREAMBLE}{commands}")]);
        shell.current_dir(self.folder.path()).env("PATH", path).env("HOME", self.folder.path());
        let output: Output =
            tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        let [told, errors] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{told}\n{errors}");
        told
    }
}

fn assert_contains(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "{part:?} in\n{output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_commands_do_what_the_documentation_says() {
    // agimo serves every annotated workload of the cluster, also those of other tests.
    let _alone = Namespace::exclusive("documented").await;
    let clone = Clone::new();
    let remove = "helm uninstall agimo --namespace agimo\nkubectl delete namespace agimo";

    let output = clone.run(&commands("first-hour")).await;
    assert_contains(
        &output,
        &[
            "hello from example",
            "1/1",
            "example.com ",
            "is forwarded",
            "woken by GET /",
            "0 failed, 0 warnings",
        ],
    );

    clone.run("kubectl apply --filename docs/manifests/example.yaml").await;
    let output =
        clone.run(&(commands("readme") + "curl http://127.0.0.1:9090/livez\nagimo status")).await;
    assert_contains(&output, &["hello from example", "example.com "]);
    clone.run(&commands("pins")).await;
    clone.run("kubectl annotate deployment example agimo.onichandame.com/host-").await;
    clone.run("helm uninstall agimo --namespace agimo\nhelm repo remove agimo").await;

    let output = clone.run(&commands("kubernetes")).await;
    assert_contains(&output, &["hello from example", "\"host\": \"example.com\""]);
    clone.run(&commands("kubernetes-keda")).await;
    let certificate = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=example.com -keyout tls.key -out tls.crt -days 30 2>&1\n\
        kubectl --namespace agimo create secret tls shop-tls --cert tls.crt --key tls.key\n";
    clone.run(&(certificate.to_owned() + &commands("tls"))).await;
    let everything = "kubectl delete --filename docs/manifests/scaledobject.yaml --filename docs/manifests/example.yaml";
    clone.run(&format!("{everything}\n{remove}")).await;

    clone.run(&commands("without-helm")).await;
    clone.run("kubectl --namespace agimo rollout status deployment agimo --timeout 60s").await;
    clone
        .run("kubectl delete --filename docs/manifests/agimo.yaml\nkubectl delete namespace agimo")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_operate_agimo_do_what_the_documentation_says() {
    let shop = Namespace::exclusive("shop").await;
    let clone = Clone { shop: shop.name.clone(), ..Clone::new() };
    shop.deployment("shop").apply().await;
    let account = format!("{}:deployer", shop.name);
    for arguments in [
        &[
            "annotate",
            "deployment",
            "shop",
            "agimo.onichandame.com/host=shop.example",
            "agimo.onichandame.com/sleep-after=1h",
        ][..],
        &["create", "serviceaccount", "deployer"],
        &["create", "role", "deployer", "--verb=get,update,patch", "--resource=deployments/scale"],
        &["create", "rolebinding", "deployer", "--role=deployer", "--serviceaccount", &account],
    ] {
        shop.kubectl(arguments);
    }
    let install = "helm install agimo charts/agimo --namespace agimo --create-namespace --wait \
        --set image.repository=registry.example.com/agimo --set admin.tokenReview=true";
    clone.run(install).await;

    let forward = "kubectl --namespace agimo port-forward service/agimo-admin 9090:9090 &\n\
        curl http://127.0.0.1:9090/livez\n";
    clone.run(&commands("operations-token")).await;
    let output = clone
        .run(&format!("{forward}export AGIMO_TOKEN_FILE=token\n{}", commands("operations-changes")))
        .await;
    assert_contains(&output, &["shop"]);
    eventually("the workload sleeps as it was told", || async {
        let replicas = "jsonpath={.spec.replicas}";
        (shop.kubectl(&["get", "deployment", "shop", "--output", replicas]) == "0").then_some(())
    })
    .await;
    let request = "kubectl --namespace agimo port-forward service/agimo 8080:80 &\n\
        curl --header 'Host: shop.example' http://127.0.0.1:8080/cart\n";
    let output = clone.run(&format!("{request}{}", commands("operations"))).await;
    assert_contains(
        &output,
        &["shop.example", "is forwarded", "woken by GET /cart", "Woken", "0 failed"],
    );
    clone.run("helm uninstall agimo --namespace agimo\nkubectl delete namespace agimo").await;
}
