import Foundation

/// Types of elements, by numpy's names.
enum ElementType: String, Sendable {
    case bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64

    var bytes: Int {
        switch self {
        case .bool, .int8, .uint8: return 1
        case .int16, .uint16, .float16: return 2
        case .int32, .uint32, .float32: return 4
        case .int64, .uint64, .float64: return 8
        }
    }

    var isFloat: Bool { self == .float16 || self == .float32 || self == .float64 }
}

/// An array in C order, little-endian, as the protocol sends it.
struct Tensor: Sendable {
    var type: ElementType
    var shape: [Int]
    var data: Data

    var count: Int { shape.reduce(1, *) }

    /// Zeros. Throws ``Failure`` for a shape that no memory holds.
    init(_ type: ElementType, _ shape: [Int]) throws {
        var size = type.bytes
        for each in shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: each)
            guard each >= 0, !overflow, product <= 1 << 40 else {
                throw Failure(
                    "open", "an array of shape \(shape) does not fit into memory",
                    hint: "use a smaller batch or resolution", kind: "out_of_memory")
            }
            size = product
        }
        self.type = type
        self.shape = shape
        data = Data(count: size)
    }

    /// Element `index` as a number. 64-bit integers are rounded.
    func number(_ index: Int) -> Double {
        data.withUnsafeBytes { Tensor.number($0.baseAddress! + index * type.bytes, type) }
    }

    static func number(_ at: UnsafeRawPointer, _ type: ElementType) -> Double {
        switch type {
        case .bool, .uint8: return Double(at.loadUnaligned(as: UInt8.self))
        case .int8: return Double(at.loadUnaligned(as: Int8.self))
        case .int16: return Double(at.loadUnaligned(as: Int16.self))
        case .uint16: return Double(at.loadUnaligned(as: UInt16.self))
        case .int32: return Double(at.loadUnaligned(as: Int32.self))
        case .uint32: return Double(at.loadUnaligned(as: UInt32.self))
        case .int64: return Double(at.loadUnaligned(as: Int64.self))
        case .uint64: return Double(at.loadUnaligned(as: UInt64.self))
        case .float16: return Double(floatOfHalf(at.loadUnaligned(as: UInt16.self)))
        case .float32: return Double(at.loadUnaligned(as: Float.self))
        case .float64: return at.loadUnaligned(as: Double.self)
        }
    }

    /// Writes a real number, rounded to the type, or a whole one, cut to its low bits.
    static func store(_ value: Double, at: UnsafeMutableRawPointer, _ type: ElementType) {
        switch type {
        case .float16: at.storeBytes(of: halfOf(value), as: UInt16.self)
        case .float32: at.storeBytes(of: Float(value), as: Float.self)
        case .float64: at.storeBytes(of: value, as: Double.self)
        default:
            let whole = value.isFinite ? max(min(value.rounded(.towardZero), 9.2e18), -9.2e18) : 0
            store(UInt64(bitPattern: Int64(whole)), at: at, type)
        }
    }

    /// Writes the low bits of a whole number, as two's complement.
    static func store(_ bits: UInt64, at: UnsafeMutableRawPointer, _ type: ElementType) {
        switch type.bytes {
        case 1:
            let byte = type == .bool ? (bits == 0 ? 0 : 1) : UInt8(truncatingIfNeeded: bits)
            at.storeBytes(of: byte, as: UInt8.self)
        case 2: at.storeBytes(of: UInt16(truncatingIfNeeded: bits), as: UInt16.self)
        case 4: at.storeBytes(of: UInt32(truncatingIfNeeded: bits), as: UInt32.self)
        default: at.storeBytes(of: bits, as: UInt64.self)
        }
    }

    /// Calls `body` with each index and the place of the element.
    mutating func fill(_ body: (Int, UnsafeMutableRawPointer) throws -> Void) rethrows {
        let (count, step) = (self.count, type.bytes)
        try data.withUnsafeMutableBytes { bytes in
            for index in 0..<count { try body(index, bytes.baseAddress! + index * step) }
        }
    }

    /// The array with elements of another type.
    func converted(to other: ElementType) throws -> Tensor {
        if other == type { return self }
        var made = try Tensor(other, shape)
        made.fill { index, place in Tensor.store(number(index), at: place, other) }
        return made
    }
}

// Swift has no Float16 on Macs with Intel processors.

func floatOfHalf(_ half: UInt16) -> Float {
    let sign: Float = half & 0x8000 == 0 ? 1 : -1
    let exponent = Int(half >> 10 & 0x1F)
    let fraction = Float(half & 0x3FF)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default:
        return sign * Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
    }
}

/// Rounds once, to the nearest and to even between two.
func halfOf(_ value: Double) -> UInt16 {
    let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
    let size = value.magnitude
    if value.isNaN { return sign | 0x7E00 }
    // Half a step above the largest half.
    if size >= 65520 { return sign | 0x7C00 }
    // The spacing of halves near this value; below the smallest normal one it stays the same.
    let exponent = max(size == 0 ? -14 : Int(size.exponent), -14)
    let step = Double(sign: .plus, exponent: exponent - 10, significand: 1)
    let steps = Int((size / step).rounded(.toNearestOrEven))
    // A carry into the next exponent comes out right by itself.
    return sign | UInt16(steps + (exponent + 14) << 10)
}
