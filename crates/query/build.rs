//! Builds again when the files that are built in change.

fn main() {
    println!("cargo:rerun-if-changed=../../dashboards/grafana/dashboards");
    println!("cargo:rerun-if-changed=../../dashboards/console/dist");
}
