"""Orders in which an autoregressive flow takes the atoms."""

from gibbsian.chem.topology import Topology


def bond_order(topology: Topology, first: int) -> list[int]:
    """Atoms by their distance in bonds from `first`, heavy atoms before hydrogens, then by index.

    Each atom then comes after one that it is bonded to, so that its conditional density is narrow. Atoms that no bond
    leads to come last.
    """
    distance = {first: 0}
    reached = [first]
    for atom in reached:
        for neighbour in topology.neighbours[atom]:
            if neighbour not in distance:
                distance[neighbour] = distance[atom] + 1
                reached.append(neighbour)
    far = topology.n_atoms
    return sorted(range(far), key=lambda k: (distance.get(k, far), topology.elements[k] == "H", k))
