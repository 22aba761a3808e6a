// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "LatbenchWorker",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [
        .library(name: "LatbenchWorker", targets: ["LatbenchWorker"]),
        .executable(name: "latbench-apple", targets: ["latbench-apple"]),
    ],
    targets: [
        .target(name: "LatbenchWorker"),
        .executableTarget(name: "latbench-apple", dependencies: ["LatbenchWorker"]),
    ]
)
