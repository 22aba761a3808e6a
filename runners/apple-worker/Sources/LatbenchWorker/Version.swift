/// That of latbench, whose sources this program is part of.
public let workerVersion = "0.1.0"
let protocolVersion: Int64 = 2

#if os(iOS)
    public let programName = "latbench-iphone"
#else
    public let programName = "latbench-apple"
#endif
