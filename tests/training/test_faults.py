import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.faults import first_fault


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=1, ge=1)


class _Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    section: _Section = _Section()
    several: tuple[_Section, ...] = ()
    perhaps: _Section | None = None

    @model_validator(mode="after")
    def _narrow(self) -> "_Whole":
        if self.section.width > 9:
            raise ValueError("the section is too wide; narrow it")
        return self


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({}, "name is missing; the keys are name, section, several, perhaps"),
        ({"name": "a", "nane": "b"}, "nane is an unknown key; did you mean name?"),
        (
            {"name": "a", "section": {"widht": 2}},
            "section.widht is an unknown key; did you mean width?",
        ),
        ({"name": "a", "section": {"q": 2}}, "section.q is an unknown key; the keys are width"),
        (
            {"name": "a", "section": {"width": 0}},
            "section.width = 0: Input should be greater than or equal to 1",
        ),
        (
            {"name": "a", "several": [{}, {"widht": 2}]},
            "several[1].widht is an unknown key; did you mean width?",
        ),
        (
            {"name": "a", "several": [{"width": 0}]},
            "several[0].width = 0: Input should be greater than or equal to 1",
        ),
        (
            {"name": "a", "perhaps": {"q": 2}},
            "perhaps.q is an unknown key; the keys are width",
        ),
        ({"name": "a", "section": {"width": 10}}, "the section is too wide; narrow it"),
        ({"name": 3}, "name = 3: Input should be a valid string"),
    ],
)
def test_first_fault(raw: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Whole.model_validate(raw)
    assert first_fault(caught.value, _Whole) == fault
