import Foundation

/// Reads the arrays of an `.npz` file as the harness writes it: a zip file of `.npy` members that
/// are stored without compression. Throws ``Failure``.
func readNpz(_ path: String) throws -> [String: Tensor] {
    do {
        let file = Bytes(try Data(contentsOf: URL(fileURLWithPath: path)))
        return try members(of: file)
    } catch let error as Damaged {
        throw unreadable(path, error.reason)
    } catch let error as Failure {
        throw error
    } catch {
        throw unreadable(path, described(error))
    }
}

private func unreadable(_ path: String, _ reason: String) -> Failure {
    Failure(
        "open", "the inputs cannot be read: \(path): \(reason)",
        hint: "the file was changed during the run; run it again")
}

private struct Damaged: Error {
    var reason: String
}

/// Reads numbers and parts of a file, and finds out where it ends too early.
private struct Bytes {
    let data: Data

    init(_ data: Data) { self.data = data }

    func part(_ at: Int, _ size: Int) throws -> Data {
        guard at >= 0, size >= 0, at <= data.count, size <= data.count - at else {
            throw Damaged(reason: "it ends early")
        }
        return data.subdata(in: at..<at + size)
    }

    func number(_ at: Int, _ size: Int) throws -> Int {
        let bits = try part(at, size).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let value = Int(exactly: bits) else { throw Damaged(reason: "a size is too large") }
        return value
    }
}

private func members(of file: Bytes) throws -> [String: Tensor] {
    let end = try endRecord(of: file)
    var count = try file.number(end + 10, 2)
    var at = try file.number(end + 16, 4)
    if count == 0xFFFF || at == 0xFFFF_FFFF {
        let record = try file.number(end - 20 + 8, 8)
        count = try file.number(record + 32, 8)
        at = try file.number(record + 48, 8)
    }
    var found: [String: Tensor] = [:]
    for _ in 0..<count {
        guard try file.number(at, 4) == 0x0201_4B50 else {
            throw Damaged(reason: "its directory is damaged")
        }
        guard try file.number(at + 10, 2) == 0 else {
            throw Damaged(reason: "a member is compressed")
        }
        let name = String(decoding: try file.part(at + 46, try file.number(at + 28, 2)), as: UTF8.self)
        let extra = try file.part(
            at + 46 + name.utf8.count, try file.number(at + 30, 2))
        var sizes = [try file.number(at + 24, 4), try file.number(at + 20, 4)]
        var local = try file.number(at + 42, 4)
        try widen(&sizes, &local, from: Bytes(extra))
        guard sizes[0] == sizes[1] else { throw Damaged(reason: "\(name) has two sizes") }
        let content = local + 30 + (try file.number(local + 26, 2)) + (try file.number(local + 28, 2))
        let data = try file.part(content, sizes[0])
        guard crc32(data) == UInt32(try file.number(at + 16, 4)) else {
            throw Damaged(reason: "\(name) has another checksum")
        }
        let key = name.hasSuffix(".npy") ? String(name.dropLast(4)) : name
        found[key] = try array(Bytes(data))
        at += 46 + name.utf8.count + extra.count + (try file.number(at + 32, 2))
    }
    return found
}

private func endRecord(of file: Bytes) throws -> Int {
    // A comment of up to 64 KiB may follow the record.
    for at in stride(from: file.data.count - 22, through: max(0, file.data.count - 65_557), by: -1)
    where try file.number(at, 4) == 0x0605_4B50 {
        return at
    }
    throw Damaged(reason: "it is not a zip file")
}

/// Sizes that do not fit into 32 bits are in a field of their own.
private func widen(_ sizes: inout [Int], _ local: inout Int, from extra: Bytes) throws {
    var at = 0
    while at + 4 <= extra.data.count {
        let (kind, size) = (try extra.number(at, 2), try extra.number(at + 2, 2))
        var field = at + 4
        if kind == 1 {
            for index in 0..<2 where sizes[index] == 0xFFFF_FFFF {
                sizes[index] = try extra.number(field, 8)
                field += 8
            }
            if local == 0xFFFF_FFFF { local = try extra.number(field, 8) }
        }
        at += 4 + size
    }
}

private func crc32(_ data: Data) -> UInt32 {
    var table = [UInt32](repeating: 0, count: 256)
    for index in table.indices {
        var value = UInt32(index)
        for _ in 0..<8 { value = (value & 1 == 1 ? 0xEDB8_8320 : 0) ^ (value >> 1) }
        table[index] = value
    }
    var sum: UInt32 = 0xFFFF_FFFF
    data.withUnsafeBytes { bytes in
        for byte in bytes { sum = table[Int((sum ^ UInt32(byte)) & 0xFF)] ^ (sum >> 8) }
    }
    return ~sum
}

private func array(_ file: Bytes) throws -> Tensor {
    guard try file.part(0, 6) == Data([0x93] + "NUMPY".utf8) else {
        throw Damaged(reason: "a member is not an array")
    }
    let wide = try file.number(6, 1) > 1
    let (length, start) = wide ? (try file.number(8, 4), 12) : (try file.number(8, 2), 10)
    let header = String(decoding: try file.part(start, length), as: UTF8.self)
    guard let kind = field(header, "'descr': *'([^']*)'"), let type = elements[kind],
        let order = field(header, "'fortran_order': *(True|False)"),
        let sizes = field(header, "'shape': *\\(([0-9, ]*)\\)")
    else {
        throw Damaged(reason: "an array has a header that is not read here: \(header.prefix(100))")
    }
    let shape = sizes.split(separator: ",").compactMap {
        Int($0.trimmingCharacters(in: .whitespaces))
    }
    var made = try Tensor(type, shape)
    let data = try file.part(start + length, made.data.count)
    guard order == "True" else {
        made.data = data
        return made
    }
    // Fortran order: the first index changes fastest.
    data.withUnsafeBytes { from in
        made.fill { index, place in
            var (rest, at, step) = (index, 0, shape.reduce(1, *))
            for size in shape.reversed() {
                step /= size
                at += rest % size * step
                rest /= size
            }
            place.copyMemory(from: from.baseAddress! + at * type.bytes, byteCount: type.bytes)
        }
    }
    return made
}

private let elements: [String: ElementType] = [
    "|b1": .bool, "|i1": .int8, "|u1": .uint8, "<i2": .int16, "<u2": .uint16, "<i4": .int32,
    "<u4": .uint32, "<i8": .int64, "<u8": .uint64, "<f2": .float16, "<f4": .float32,
    "<f8": .float64,
]

private func field(_ header: String, _ pattern: String) -> String? {
    guard let expression = try? NSRegularExpression(pattern: pattern),
        let found = expression.firstMatch(
            in: header, range: NSRange(header.startIndex..., in: header)),
        let range = Range(found.range(at: 1), in: header)
    else { return nil }
    return String(header[range])
}
