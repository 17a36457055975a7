// A molecule ready for evaluation: owns the tables, the scratch memory and the threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sets/sets.hpp"

namespace gibbsian {

template <class T>
using Columns = std::unordered_map<std::string, std::vector<T>>;

// Pair intermediates are kept between passes while those of one vector of conformations take no more than this.
inline constexpr std::size_t kKeptBytes = 640 * 1024;

// Scratch memory with its lifetime.
template <class T>
struct OwnedSpace : Space<T> {
    OwnedSpace(const Tables<T>& tables, std::size_t lanes) {
        const std::size_t n = tables.n_atoms, kept = tables.keep_pairs ? 4 * tables.n_pairs : 0;
        const std::size_t bytes = ((12 + 6) * n + kept + 1) * lanes * sizeof(T) + lanes * sizeof(double) + 128;
        memory.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        if (!memory) throw std::bad_alloc();
        this->energy = static_cast<double*>(memory.get());
        T* next = reinterpret_cast<T*>(static_cast<char*>(memory.get()) + (lanes * sizeof(double) + 63) / 64 * 64);
        const auto take = [&next, lanes](std::size_t rows) { return std::exchange(next, next + rows * lanes); };
        this->x = take(3 * n), this->v = take(3 * n), this->force = take(3 * n), this->reference = take(3 * n);
        this->sums = take(n), this->lost = take(n), this->radii = take(n), this->inverse = take(n), this->by_log = take(n);
        this->radii_slope = take(n);
        this->kept = take(kept);
    }

    struct Free {
        void operator()(void* pointer) const { std::free(pointer); }
    };
    std::unique_ptr<void, Free> memory;
};

template <class T>
class Engine {
public:
    // `reals` and `indices` hold the arrays of tables.hpp by name, `numbers` its scalars; what is missing is absent.
    Engine(std::size_t n_atoms, Columns<T> reals, Columns<Index> indices,
           const std::unordered_map<std::string, double>& numbers, const std::string& set)
        : reals_(std::move(reals)), indices_(std::move(indices)), kernels_(find_kernels<T>(set)) {
        const auto number = [&numbers](const char* name) {
            const auto found = numbers.find(name);
            return found == numbers.end() ? 0.0 : found->second;
        };
        tables_.n_atoms = n_atoms;
        tables_.n_pairs = n_atoms * (n_atoms - 1) / 2;
        tables_.shortest2 = T(number("shortest2"));
        tables_.bonds = terms("bonds", 2), tables_.angles = terms("angles", 3);
        tables_.impropers = terms("impropers", 4), tables_.torsions.terms = terms("torsions", 4);
        tables_.torsions.even = int(number("even")), tables_.torsions.odd = int(number("odd"));
        tables_.maps = {terms("maps", 8), data(indices_, "maps_first"), data(indices_, "maps_size")};
        tables_.pairs = rows<Pair<T>>("pairs"), tables_.cuts = rows<Cut<T>>("cuts");
        Born<T>& born = tables_.born;
        born.atoms = rows<BornAtom<T>>("born_atoms"), born.neck = rows<Neck<T>>("neck");
        born.rescaled = number("rescaled") != 0, born.engulfed_term = number("engulfed_term") != 0;
        born.kappa = T(number("kappa")), born.salt_ratio = T(number("salt_ratio"));
        born.cutoff = T(number("born_cutoff"));
        tables_.keep_pairs = tables_.n_pairs * 4 * kernels_.lanes * sizeof(T) <= kKeptBytes;
    }

    std::size_t n_atoms() const { return tables_.n_atoms; }

    void evaluate(const T* x, std::size_t n, double* energy, T* force, std::size_t threads) {
        const std::size_t width = 3 * tables_.n_atoms;
        for_each_block(n, threads, [&](Space<T>& space, std::size_t first, std::size_t count) {
            kernels_.evaluate(tables_, space, x + first * width, count, energy + first, force + first * width);
        });
    }

    void run(const Motion<T>& motion, std::size_t n, T* x, T* v, double* energy, T* force, std::size_t threads) {
        const std::size_t width = 3 * tables_.n_atoms;
        for_each_block(n, threads, [&](Space<T>& space, std::size_t first, std::size_t count) {
            const std::size_t at = first * width;
            kernels_.run(tables_, space, motion, first, count, x + at, v + at, energy + first, force + at);
        });
    }

private:
    template <class V>
    static const V* data(const Columns<V>& columns, const std::string& name) {
        const auto found = columns.find(name);
        return found == columns.end() || found->second.empty() ? nullptr : found->second.data();
    }

    Terms<T> terms(const std::string& name, std::size_t atoms) const {
        const auto found = indices_.find(name);
        if (found == indices_.end()) return {};
        return {found->second.size() / atoms, found->second.data(), data(reals_, name)};
    }

    template <class Row>
    const Row* rows(const std::string& name) const {
        static_assert(sizeof(Row) % sizeof(T) == 0);
        return reinterpret_cast<const Row*>(data(reals_, name));
    }

    // Deals vectors of conformations to threads, as each becomes free; results do not depend on who does what.
    template <class Work>
    void for_each_block(std::size_t n, std::size_t threads, const Work& work) {
        const std::size_t lanes = kernels_.lanes, blocks = (n + lanes - 1) / lanes;
        const std::size_t members = std::max<std::size_t>(1, std::min(threads, blocks));
        std::vector<std::unique_ptr<OwnedSpace<T>>> spaces;
        while (spaces.size() < members) spaces.push_back(borrow());
        std::atomic<std::size_t> next{0};
        const auto toil = [&](Space<T>& space) {
            for (std::size_t block; (block = next++) < blocks;)
                work(space, block * lanes, std::min(lanes, n - block * lanes));
        };
        std::vector<std::thread> others;
        for (std::size_t k = 1; k < members; ++k) others.emplace_back(toil, std::ref<Space<T>>(*spaces[k]));
        toil(*spaces[0]);
        for (auto& other : others) other.join();
        const std::lock_guard<std::mutex> lock(mutex_);
        for (auto& space : spaces) idle_.push_back(std::move(space));
    }

    std::unique_ptr<OwnedSpace<T>> borrow() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (idle_.empty()) return std::make_unique<OwnedSpace<T>>(tables_, kernels_.lanes);
        auto space = std::move(idle_.back());
        idle_.pop_back();
        return space;
    }

    Columns<T> reals_;
    Columns<Index> indices_;
    Kernels<T> kernels_;
    Tables<T> tables_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<OwnedSpace<T>>> idle_;
};

}  // namespace gibbsian
