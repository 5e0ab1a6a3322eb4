// What the bytes of each storage format mean: deq16 gives 16 neighbouring values of a row, from the one numbered k on, which is a
// multiple of 16, of a row of `length` values. The layouts are those of src/formats, whose dequantize is the definition; every value
// here is computed in the same steps. LEN is the values and BYTES the bytes of a block. Fields of two bytes lie at even addresses
// in every format but MXFP4, whose blocks have an odd length.

#define SIZES(len, bytes)                            \
    static constant constexpr const uint LEN = len;  \
    static constant constexpr const uint BYTES = bytes

inline float f16_at(device const uchar *p) {
    return float(*(device const half *)p);
}

inline uint u16_at(device const uchar *p) {
    return *(device const ushort *)p;
}

// 16 bytes from an even address on, taken two at a time.
inline void bytes16(device const uchar *p, thread uchar *q) {
    for (ushort i = 0; i < 8; i++) {
        ushort pair = ((device const ushort *)p)[i];
        q[2 * i] = uchar(pair & 255);
        q[2 * i + 1] = uchar(pair >> 8);
    }
}

struct F32 {
    SIZES(1, 4);
    static void deq16(device const uchar *row, uint k, uint length, thread float *w) {
        device const float *values = (device const float *)row;
        for (ushort i = 0; i < 16; i++) w[i] = k + i < length ? values[k + i] : 0.0f;
    }
};

struct F16 {
    SIZES(1, 2);
    static void deq16(device const uchar *row, uint k, uint length, thread float *w) {
        device const half *values = (device const half *)row;
        for (ushort i = 0; i < 16; i++) w[i] = k + i < length ? float(values[k + i]) : 0.0f;
    }
};

struct BF16 {
    SIZES(1, 2);
    static void deq16(device const uchar *row, uint k, uint length, thread float *w) {
        device const ushort *values = (device const ushort *)row;
        for (ushort i = 0; i < 16; i++) w[i] = k + i < length ? as_type<float>(uint(values[k + i]) << 16) : 0.0f;
    }
};

struct Q8_0 {
    SIZES(32, 34);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 2 + k % LEN, q);
        float d = f16_at(b);
        for (ushort i = 0; i < 16; i++) w[i] = float(char(q[i])) * d;
    }
};

// The first 16 values of a block are in the low nibbles, the others in the high ones.
struct Q4_0 {
    SIZES(32, 18);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 2, q);
        float d = f16_at(b);
        uint shift = k % LEN / 4;
        for (ushort i = 0; i < 16; i++) w[i] = (float(q[i] >> shift & 15) - 8.0f) * d;
    }
};

struct Q4_1 {
    SIZES(32, 20);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 4, q);
        float d = f16_at(b), m = f16_at(b + 2);
        uint shift = k % LEN / 4;
        for (ushort i = 0; i < 16; i++) w[i] = float(q[i] >> shift & 15) * d + m;
    }
};

struct Q5_0 {
    SIZES(32, 22);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 6, q);
        float d = f16_at(b);
        uint shift = k % LEN / 4, fifth = u16_at(b + 2 + k % LEN / 8);
        for (ushort i = 0; i < 16; i++) w[i] = (float((q[i] >> shift & 15) | (fifth >> i & 1) << 4) - 16.0f) * d;
    }
};

struct Q5_1 {
    SIZES(32, 24);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 8, q);
        float d = f16_at(b), m = f16_at(b + 2);
        uint shift = k % LEN / 4, fifth = u16_at(b + 4 + k % LEN / 8);
        for (ushort i = 0; i < 16; i++) w[i] = float((q[i] >> shift & 15) | (fifth >> i & 1) << 4) * d + m;
    }
};

struct Q2_K {
    SIZES(256, 84);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN;
        uchar q[16];
        bytes16(b + 16 + 32 * (at / 128) + at % 32, q);
        uint shift = at / 32 % 4 * 2, scale = b[at / 16];
        float d = f16_at(b + 80) * float(scale & 15), m = f16_at(b + 82) * float(scale >> 4);
        for (ushort i = 0; i < 16; i++) w[i] = d * float(q[i] >> shift & 3) - m;
    }
};

struct Q3_K {
    SIZES(256, 110);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN, g = at / 16, run = at / 32;
        uchar q[16], third[16];
        bytes16(b + 32 + 32 * (at / 128) + at % 32, q);
        bytes16(b + at % 32, third);
        uint low = uint(b[96 + g % 8]) >> (4 * (g / 8)) & 15, high = uint(b[104 + g % 4]) >> (2 * (g / 4)) & 3;
        float d = f16_at(b + 108) * (float(low | high << 4) - 32.0f);
        uint shift = run % 4 * 2;
        for (ushort i = 0; i < 16; i++) w[i] = d * (float((q[i] >> shift & 3) | (third[i] >> run & 1) << 2) - 4.0f);
    }
};

// The scale and the min of group g of the 12 bytes that Q4_K and Q5_K share.
struct ScaleAndMin {
    float scale, min;
};
inline ScaleAndMin scale_and_min(device const uchar *packed, uint g) {
    uint scale, min;
    if (g < 4) {
        scale = packed[g] & 63;
        min = packed[g + 4] & 63;
    } else {
        scale = (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
        min = packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    }
    ScaleAndMin both;
    both.scale = float(scale);
    both.min = float(min);
    return both;
}

struct Q4_K {
    SIZES(256, 144);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN, g = at / 32;
        uchar q[16];
        bytes16(b + 16 + 32 * (g / 2) + at % 32, q);
        ScaleAndMin s = scale_and_min(b + 4, g);
        float d = f16_at(b) * s.scale, m = f16_at(b + 2) * s.min;
        uint shift = g % 2 * 4;
        for (ushort i = 0; i < 16; i++) w[i] = d * float(q[i] >> shift & 15) - m;
    }
};

struct Q5_K {
    SIZES(256, 176);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN, g = at / 32;
        uchar q[16], fifth[16];
        bytes16(b + 48 + 32 * (g / 2) + at % 32, q);
        bytes16(b + 16 + at % 32, fifth);
        ScaleAndMin s = scale_and_min(b + 4, g);
        float d = f16_at(b) * s.scale, m = f16_at(b + 2) * s.min;
        uint shift = g % 2 * 4;
        for (ushort i = 0; i < 16; i++) w[i] = d * float((q[i] >> shift & 15) | (fifth[i] >> g & 1) << 4) - m;
    }
};

struct Q6_K {
    SIZES(256, 210);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN, half_block = at / 128, run = at / 32 % 4;
        uchar low[16], high[16];
        bytes16(b + 64 * half_block + 32 * (run % 2) + at % 32, low);
        bytes16(b + 128 + 32 * half_block + at % 32, high);
        float d = f16_at(b + 208) * float(char(b[192 + at / 16]));
        uint shift = run / 2 * 4;
        for (ushort i = 0; i < 16; i++) {
            w[i] = d * (float((low[i] >> shift & 15) | (high[i] >> (2 * run) & 3) << 4) - 32.0f);
        }
    }
};

constant float IQ4_CODEBOOK[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct IQ4_NL {
    SIZES(32, 18);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uchar q[16];
        bytes16(b + 2, q);
        float d = f16_at(b);
        uint shift = k % LEN / 4;
        for (ushort i = 0; i < 16; i++) w[i] = d * IQ4_CODEBOOK[q[i] >> shift & 15];
    }
};

struct IQ4_XS {
    SIZES(256, 136);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        uint at = k % LEN, g = at / 32;
        uchar q[16];
        bytes16(b + 8 + 16 * g, q);
        uint low = uint(b[4 + g / 2]) >> (4 * (g % 2)) & 15, high = u16_at(b + 2) >> (2 * g) & 3;
        float d = f16_at(b) * (float(low | high << 4) - 32.0f);
        uint shift = at % 32 / 4;
        for (ushort i = 0; i < 16; i++) w[i] = d * IQ4_CODEBOOK[q[i] >> shift & 15];
    }
};

// Twice the floats, which half the scale makes up for.
constant float MXFP4_CODES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct MXFP4 {
    SIZES(32, 17);
    static void deq16(device const uchar *row, uint k, uint, thread float *w) {
        device const uchar *b = row + k / LEN * BYTES;
        // 2^(e − 128), subnormal for the first two.
        float d = as_type<float>(b[0] < 2 ? 0x00200000u << b[0] : uint(b[0] - 1) << 23);
        uint shift = k % LEN / 4;
        for (ushort i = 0; i < 16; i++) w[i] = d * MXFP4_CODES[b[1 + i] >> shift & 15];
    }
};
