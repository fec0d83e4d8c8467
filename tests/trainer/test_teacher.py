"""The averaged copy: its decay by hand, its buffers, and that it never has gradients."""

import pytest
import torch
from torch import nn

from tests import oracles
from trainer.spec import Teacher as TeacherSpec
from trainer.teacher import Teacher, decay_at


def student_of(value: float = 0.0) -> nn.Sequential:
    """A 1x1 convolution and a batch norm with all parameters at one value."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


def parameter_values(network: nn.Module) -> set[float]:
    """The different values of all parameters."""
    return {value for parameter in network.parameters() for value in parameter.flatten().tolist()}


def fill(network: nn.Module, value: float) -> None:
    """Put one value into every parameter and every floating buffer."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(value)


def test_the_decay_warms_up_from_zero_to_its_limit() -> None:
    decays = [decay_at(updates, TeacherSpec(ema_decay=0.7)) for updates in range(6)]
    assert decays == pytest.approx([0, 1 / 2, 2 / 3, 0.7, 0.7, 0.7])
    assert decay_at(98, TeacherSpec()) == pytest.approx(98 / 99)
    assert decay_at(99, TeacherSpec()) == decay_at(10_000, TeacherSpec()) == 0.99


def test_without_warm_up_the_decay_is_constant() -> None:
    assert {decay_at(updates, TeacherSpec(warm_up=False)) for updates in (0, 1, 1000)} == {0.99}


def test_the_first_update_copies_the_student_bit_for_bit() -> None:
    student = student_of()
    teacher = Teacher(student, TeacherSpec())
    fill(student, 0.1)
    teacher.update(student)
    assert parameter_values(teacher.network) == parameter_values(student)


@pytest.mark.parametrize("warm_up", [True, False])
def test_updates_equal_the_average_unrolled_by_hand(warm_up: bool) -> None:
    student = student_of(5.0).double()
    teacher = Teacher(student, TeacherSpec(ema_decay=0.75, warm_up=warm_up))
    values = [1.0, 4.0, -2.0, 8.0, 3.0, 0.5]
    for value, expected in zip(values, oracles.averaged(values, 0.75, warm_up=warm_up, start=5.0), strict=True):
        fill(student, value)
        teacher.update(student)
        (found,) = parameter_values(teacher.network)
        assert found == pytest.approx(expected, rel=1e-14)


def test_own_buffers_follow_the_teachers_batches_alone() -> None:
    student = student_of()
    teacher = Teacher(student, TeacherSpec(batch_norm="own"))
    fill(student, 3.0)
    teacher.update(student)
    assert teacher.network[1].running_mean.tolist() == [0.0, 0.0]
    assert teacher.network.training
    teacher(torch.ones(2, 3, 4, 4))
    assert teacher.network[1].num_batches_tracked.item() == 1
    assert teacher.network[1].running_mean.tolist() == pytest.approx([1.2, 1.2])  # 0.1 x (3 x 3 + 3)


def test_averaged_buffers_follow_the_student_in_eval_mode() -> None:
    student = student_of()
    teacher = Teacher(student, TeacherSpec(batch_norm="averaged"))
    for value in (4.0, 2.0):
        fill(student, value)
        teacher.update(student)
    assert teacher.network[1].running_mean.tolist() == [3.0, 3.0]
    assert teacher.network[1].num_batches_tracked.item() == 2  # a count is taken over, not averaged
    assert not teacher.network.training


def test_the_teacher_never_has_gradients() -> None:
    student = student_of(0.5)
    teacher = Teacher(student, TeacherSpec())
    teacher.update(student)
    teacher.copy_student(student)
    assert not teacher(torch.ones(1, 3, 2, 2, requires_grad=True)).requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in student.parameters())


def test_the_teacher_shares_no_memory_with_the_student() -> None:
    student = student_of(1.0)
    teacher = Teacher(student, TeacherSpec())
    teacher.copy_student(student)
    fill(student, 2.0)
    assert parameter_values(teacher.network) == {1.0}


def test_copying_the_student_takes_its_buffers_and_restarts_the_warm_up() -> None:
    student = student_of()
    teacher = Teacher(student, TeacherSpec())
    for _ in range(3):
        teacher.update(student)
    fill(student, 7.0)
    teacher.copy_student(student)
    assert teacher.updates == 0
    assert teacher.network[1].running_mean.tolist() == [7.0, 7.0]
    fill(student, 9.0)
    teacher.update(student)
    assert parameter_values(teacher.network) == {9.0}


def test_a_saved_teacher_goes_on_where_it_was() -> None:
    student = student_of(1.0)
    teacher, other = Teacher(student, TeacherSpec()), Teacher(student_of(8.0), TeacherSpec())
    teacher.update(student)
    fill(student, 3.0)
    teacher.update(student)
    other.load_state_dict(teacher.state_dict())
    assert other.updates == 2
    assert parameter_values(other.network) == {2.0}
