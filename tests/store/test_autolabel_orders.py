from backend.store import ProjectRow, Store


def test_a_new_order_takes_the_place_of_the_last(store: Store, project: ProjectRow) -> None:
    assert store.of(project.id).autolabel.get() is None
    store.of(project.id).autolabel.order(number=1, confidence=0.9, temperature=1.5, images=10, errors=0.5)
    first = store.of(project.id).autolabel.get()
    store.of(project.id).autolabel.written(first.ordered_at, 9)
    assert store.of(project.id).autolabel.get().images == 9
    store.of(project.id).autolabel.order(number=2, confidence=0.8, temperature=1.0, images=20, errors=2.5)
    second = store.of(project.id).autolabel.get()
    assert (second.round, second.confidence, second.images, second.written_at) == (2, 0.8, 20, None)
    store.of(project.id).autolabel.written(first.ordered_at, 9)  # a job that was late
    assert store.of(project.id).autolabel.get().written_at is None
