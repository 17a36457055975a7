// Coupling transforms by monotone rational-quadratic splines (arXiv 1906.04032), one variable per lane.
//
// A variable on the circle is shifted and bent by a spline whose slopes agree at the seam; one on the line is scaled,
// shifted and bent on [-bound, bound], with identity tails. Knots are made from the raw parameters on the way.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "energy.hpp"
#include "tables.hpp"

namespace gibbsian::GIBBSIAN_ISA {

// One bin of a spline on the unit interval: knots, slopes at both, and its number.
template <class V>
struct Bin {
    V x0, x1, y0, y1, left, right, number;
};

// What the formulas share at one place of a bin.
template <class V>
struct Place {
    V width, height, xi, slope, excess, g, numerator, denominator, rise;
};

template <class V>
GIBBSIAN_INLINE Place<V> place(const Bin<V>& b, V xi) {
    Place<V> p;
    p.width = b.x1 - b.x0, p.height = b.y1 - b.y0, p.xi = xi;
    p.slope = p.height / p.width, p.excess = b.left + b.right - 2 * p.slope;
    p.g = xi * (1 - xi);
    p.numerator = p.slope * xi * xi + b.left * p.g;
    p.denominator = p.slope + p.excess * p.g;
    p.rise = b.right * xi * xi + 2 * p.slope * p.g + b.left * (1 - xi) * (1 - xi);
    return p;
}

template <class V>
GIBBSIAN_INLINE V between_zero_and_one(V x) {
    using T = std::decay_t<decltype(x[0])>;
    return smaller(larger(x, V{}), splat<T>(1));
}

// log dy/dx
template <class V>
GIBBSIAN_INLINE V log_slope(const Place<V>& p) {
    return logarithm(p.rise) - 2 * logarithm(p.denominator / p.slope);
}

// d log_slope / dx
template <class V>
GIBBSIAN_INLINE V bend(const Bin<V>& b, const Place<V>& p) {
    V turn = 1 - 2 * p.xi;
    V inner = 2 * (b.right * p.xi - b.left * (1 - p.xi) + p.slope * turn) / p.rise - 2 * p.excess * turn / p.denominator;
    return inner / p.width;
}

// Gradients with respect to the six numbers of a bin and to the place in it.
template <class V>
struct Slopes {
    V x, x0, x1, y0, y1, left, right;
};

// Chain rule through the image and log_slope, whose own gradients are `image` and `log`.
template <class V>
GIBBSIAN_INLINE Slopes<V> chain(const Bin<V>& b, const Place<V>& p, V image, V log) {
    V numerator = image * p.height / p.denominator;
    V denominator = -numerator * p.numerator / p.denominator - 2 * log / p.denominator;
    V rise = log / p.rise;
    V excess = denominator * p.g;
    V g = 2 * rise * p.slope + numerator * b.left + denominator * p.excess;
    V left = rise * (1 - p.xi) * (1 - p.xi) + numerator * p.g + excess;
    V right = rise * p.xi * p.xi + excess;
    V slope = 2 * log / p.slope + 2 * rise * p.g + numerator * p.xi * p.xi + denominator - 2 * excess;
    V xi = 2 * rise * (b.right * p.xi - b.left * (1 - p.xi)) + 2 * numerator * p.slope * p.xi + g * (1 - 2 * p.xi);
    V x = xi / p.width;
    V width = -(slope * p.slope + xi * p.xi) / p.width;
    V height = image * p.numerator / p.denominator + slope / p.width;
    return {x, -x - width, width, image - height, height, left, right};
}

// The knots of one vector of variables: 2 K sizes and K + 1 slopes, rows of lanes.
template <class T>
struct Knots {
    std::size_t bins;
    T steepest;  // log of the largest slope
    T* rows;
    Vec<T> total[2];

    // Turns the raw parameters in `rows` into sizes and slopes; `end` is the raw slope of both ends.
    GIBBSIAN_INLINE void make(Vec<T> end) {
        total[0] = total[1] = Vec<T>{};
        for (std::size_t k = 0; k < 2 * bins; ++k) {
            Vec<T> size = exponential(load(rows, k) / (1 + (2 / steepest) * absolute(load(rows, k))));
            store(rows, k, size);
            total[k / bins] += size;
        }
        for (std::size_t k = 2 * bins; k < 3 * bins - 1; ++k) store(rows, k, slope_of(load(rows, k)));
        store(rows, 3 * bins - 1, slope_of(end));
    }

    GIBBSIAN_INLINE Vec<T> slope_of(Vec<T> raw) const { return exponential(raw / (1 + absolute(raw) / steepest)); }

    // The bin that holds `u`, a place (axis 0) or an image (axis 1).
    GIBBSIAN_INLINE Bin<Vec<T>> find(Vec<T> u, int axis) const {
        Vec<T> at[2] = {}, low[2] = {}, high[2] = {}, number{};
        Vec<T> end = load(rows, 3 * bins - 1), left = end, right = end;
        for (std::size_t k = 0; k < bins; ++k) {
            auto here = k == 0 ? (u == u) : u * total[axis] >= at[axis];
            Vec<T> next = k + 1 < bins ? load(rows, 2 * bins + k) : end;
            Vec<T> before = k == 0 ? end : load(rows, 2 * bins + k - 1);
            for (int a = 0; a < 2; ++a) {
                Vec<T> reached = k + 1 < bins ? at[a] + load(rows, a * bins + k) : total[a];
                low[a] = here ? at[a] : low[a], high[a] = here ? reached : high[a];
                at[a] = reached;
            }
            left = here ? before : left, right = here ? next : right;
            number = here ? splat<T>(T(k)) : number;
        }
        return {low[0] / total[0], high[0] / total[0], low[1] / total[1], high[1] / total[1], left, right, number};
    }

    // Overwrites sizes and slopes by the gradients of the raw parameters (`raw`); returns that of the ends.
    GIBBSIAN_INLINE Vec<T> pull_back(const Bin<Vec<T>>& b, const Slopes<Vec<T>>& s, const T* raw) {
        const Vec<T> from[2] = {s.x0, s.y0}, to[2] = {s.x1, s.y1};
        const Vec<T> common[2] = {s.x0 * b.x0 + s.x1 * b.x1, s.y0 * b.y0 + s.y1 * b.y1};
        for (std::size_t k = 0; k < 2 * bins; ++k) {
            const std::size_t a = k / bins;
            Vec<T> number = splat<T>(T(k % bins)), soft = 1 + (2 / steepest) * absolute(load(raw, k));
            Vec<T> sum = (number < b.number ? from[a] : Vec<T>{}) + (number <= b.number ? to[a] : Vec<T>{}) - common[a];
            store(rows, k, sum / total[a] * load(rows, k) / (soft * soft));
        }
        for (std::size_t k = 0; k + 1 < bins; ++k) {
            Vec<T> number = splat<T>(T(k)), soft = 1 + absolute(load(raw, 2 * bins + k)) / steepest;
            Vec<T> sum = (number == b.number ? s.right : Vec<T>{}) + (number + 1 == b.number ? s.left : Vec<T>{});
            store(rows, 2 * bins + k, sum * load(rows, 2 * bins + k) / (soft * soft));
        }
        Vec<T> first = b.number == 0 ? s.left : Vec<T>{};
        Vec<T> last = b.number == splat<T>(T(bins - 1)) ? s.right : Vec<T>{};
        return (first + last) * load(rows, 3 * bins - 1);
    }
};

// One vector of variables on its way.
template <class T>
struct Coupled {
    Vec<T> log_scale, scaled, unit, image, log_derivative;
    Bin<Vec<T>> bin;
    Place<Vec<T>> at;
};

template <class T>
class Coupling {
public:
    using V = Vec<T>;

    explicit Coupling(const Splines<T>& splines) : s_(splines), width_(3 * splines.bins + 1) {
        constexpr std::size_t lanes = kLanes<T>;
        memory_.reset(std::aligned_alloc(64, ((2 * width_ * lanes * sizeof(T)) + 63) / 64 * 64));
        if (!memory_) throw std::bad_alloc();
        raw_ = static_cast<T*>(memory_.get());
        knots_ = {s_.bins, s_.steepest, raw_ + width_ * lanes, {}};
    }

    // Transforms variables first..first + n - 1 of all (rows, columns); adds their log-determinants to those of rows.
    void forward(const T* v, const T* p, std::size_t first, std::size_t n, T* image, T* log_det) {
        V circle;
        const Coupled<T> c = couple(v, p, first, n, circle);
        V result = finish(c, circle), change = (s_.inverse ? -c.log_derivative : c.log_derivative);
        change = inside(c) ? change : V{};
        change += s_.inverse ? -c.log_scale : c.log_scale;
        for (std::size_t k = 0; k < n; ++k) {
            image[first + k] = result[k];
            log_det[(first + k) / s_.columns] += change[k];
        }
    }

    // Gradients of the variables and of the raw parameters, given those of the images and of the log-determinants.
    void backward(const T* v, const T* p, const T* d_image, const T* d_log_det, std::size_t first, std::size_t n,
                  T* d_v, T* d_p) {
        V circle, g{}, l{};
        for (std::size_t k = 0; k < n; ++k) g[k] = d_image[first + k], l[k] = d_log_det[(first + k) / s_.columns];
        const Coupled<T> c = couple(v, p, first, n, circle);
        auto in = inside(c);
        V span = circle != 0 ? splat<T>(1) : splat<T>(2 * s_.bound), result, d_shift, d_log_scale;
        V log = in ? l : V{}, grown = exponential(s_.inverse ? -c.log_scale : c.log_scale);
        Slopes<V> slopes;
        if (s_.inverse) {
            V moved = (bent(c, circle) - shift()) * grown;
            d_shift = -g * grown;
            d_log_scale = -g * moved - l;
            V on_image = in ? g * grown * span : V{};
            V through = (on_image - log * bend(c.bin, c.at)) * exponential(-c.log_derivative);
            slopes = chain(c.bin, c.at, -through, -log);
            result = in ? through / span : g * grown;
        } else {
            slopes = chain(c.bin, c.at, in ? g * span : V{}, log);
            V on_scaled = in ? slopes.x / span : g;
            d_shift = on_scaled;
            d_log_scale = on_scaled * (c.scaled - shift()) + l;
            result = on_scaled * grown;
        }
        V d_end = knots_.pull_back(c.bin, slopes, raw_), first_raw = load(raw_, width_ - 2);
        V soft = 1 + absolute(first_raw) / s_.steepest;
        V d_first = circle != 0 ? d_end / (soft * soft) : d_log_scale * (1 - c.log_scale * c.log_scale);
        store(knots_.rows, width_ - 2, d_first);
        store(knots_.rows, width_ - 1, d_shift);
        for (std::size_t k = 0; k < n; ++k) d_v[first + k] = result[k];
        store_lanes(knots_.rows, width_, n, d_p + first * width_);
    }

private:
    GIBBSIAN_INLINE V shift() const { return load(raw_, width_ - 1); }

    static GIBBSIAN_INLINE auto inside(const Coupled<T>& c) { return (c.unit >= 0) & (c.unit <= 1); }

    Coupled<T> couple(const T* v, const T* p, std::size_t first, std::size_t n, V& circle) {
        V x;
        for (std::size_t k = 0; k < kLanes<T>; ++k) {
            const std::size_t at = first + std::min(k, n - 1);
            x[k] = v[at], circle[k] = s_.circular[at % s_.columns];
        }
        load_lanes(p + first * width_, width_, n, raw_);
        for (std::size_t k = 0; k < 3 * s_.bins - 1; ++k) store(knots_.rows, k, load(raw_, k));
        V first_raw = load(raw_, width_ - 2);
        knots_.make(circle != 0 ? first_raw : V{});
        Coupled<T> c;
        c.log_scale = circle != 0 ? V{} : 1 - 2 / (exponential(2 * first_raw) + 1);
        c.scaled = s_.inverse ? x : x * exponential(c.log_scale) + shift();
        V onto = (c.scaled + s_.bound) / (2 * s_.bound);
        c.unit = circle != 0 ? (s_.inverse ? c.scaled : c.scaled - floor_of(c.scaled)) : onto;
        bend_unit(c);
        return c;
    }

    // Image and log-derivative of the spline at c.unit; of its inverse, the place and the log-derivative there.
    GIBBSIAN_INLINE void bend_unit(Coupled<T>& c) const {
        V u = between_zero_and_one(c.unit);
        c.bin = knots_.find(u, s_.inverse);
        if (s_.inverse) {
            Place<V> p = place(c.bin, V{});
            V up = u - c.bin.y0;
            V square = p.height * (p.slope - c.bin.left) + up * p.excess, linear = p.height * c.bin.left - up * p.excess;
            V root = square_root(larger(linear * linear + 4 * square * p.slope * up, V{}));
            V both = linear + root;
            c.at = place(c.bin, between_zero_and_one(both > 0 ? 2 * p.slope * up / both : V{}));
            c.image = c.bin.x0 + c.at.xi * c.at.width;
        } else {
            c.at = place(c.bin, between_zero_and_one((u - c.bin.x0) / (c.bin.x1 - c.bin.x0)));
            c.image = c.bin.y0 + c.at.height * c.at.numerator / c.at.denominator;
        }
        c.log_derivative = log_slope(c.at);
        c.image += 0 * c.unit;  // what is not a number stays so
    }

    // Behind the spline, in the units of the variable.
    GIBBSIAN_INLINE V bent(const Coupled<T>& c, V circle) const {
        return circle != 0 ? c.image : (inside(c) ? c.image * (2 * s_.bound) - s_.bound : c.scaled);
    }

    GIBBSIAN_INLINE V finish(const Coupled<T>& c, V circle) const {
        V moved = bent(c, circle);
        if (!s_.inverse) return moved;
        V back = (moved - shift()) * exponential(-c.log_scale);
        return circle != 0 ? back - floor_of(back) : back;
    }

    static GIBBSIAN_INLINE V floor_of(V x) {
        V result;
        for (std::size_t k = 0; k < kLanes<T>; ++k) result[k] = std::floor(x[k]);
        return result;
    }

    struct Free {
        void operator()(void* pointer) const { std::free(pointer); }
    };
    Splines<T> s_;
    std::size_t width_;
    std::unique_ptr<void, Free> memory_;
    T* raw_;
    Knots<T> knots_;
};

template <class T>
void couple(const Splines<T>& splines, const T* v, const T* p, T* image, T* log_det) {
    Coupling<T> coupling(splines);
    const std::size_t all = splines.rows * splines.columns;
    std::fill(log_det, log_det + splines.rows, T(0));
    for (std::size_t first = 0; first < all; first += kLanes<T>)
        coupling.forward(v, p, first, std::min<std::size_t>(kLanes<T>, all - first), image, log_det);
}

template <class T>
void couple_back(const Splines<T>& splines, const T* v, const T* p, const T* d_image, const T* d_log_det, T* d_v, T* d_p) {
    Coupling<T> coupling(splines);
    const std::size_t all = splines.rows * splines.columns;
    for (std::size_t first = 0; first < all; first += kLanes<T>)
        coupling.backward(v, p, d_image, d_log_det, first, std::min<std::size_t>(kLanes<T>, all - first), d_v, d_p);
}

}  // namespace gibbsian::GIBBSIAN_ISA
