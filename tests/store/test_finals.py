from backend.store import ProjectRow, Store


def test_a_new_order_takes_the_place_of_the_last(store: Store, project: ProjectRow) -> None:
    assert store.finals.get(project.id) is None
    store.finals.order(project.id, number=1, confidence=0.9, temperature=1.5, images=10, errors=0.5)
    first = store.finals.get(project.id)
    store.finals.written(project.id, first.ordered_at, 9)
    assert store.finals.get(project.id).images == 9
    store.finals.order(project.id, number=2, confidence=0.8, temperature=1.0, images=20, errors=2.5)
    second = store.finals.get(project.id)
    assert (second.round, second.confidence, second.images, second.written_at) == (2, 0.8, 20, None)
    store.finals.written(project.id, first.ordered_at, 9)  # a job that was late
    assert store.finals.get(project.id).written_at is None
